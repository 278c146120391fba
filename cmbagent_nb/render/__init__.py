"""A run as SVG, Mermaid and HTML, for the notebook, the server, the command line and exports alike."""
