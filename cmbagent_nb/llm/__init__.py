"""Models: which one answers, what it costs, and the tape that keeps every reply."""
