"""Runs generated code: folders, limits, environment and outcome."""
