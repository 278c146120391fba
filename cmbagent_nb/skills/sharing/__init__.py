"""Skills as files: exporting, importing, trusting, and the folders and repositories of a team."""
