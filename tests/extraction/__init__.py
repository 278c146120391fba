"""Runs as scientists' agents would make them, each with a list of the parameters that a scientist would vary."""
