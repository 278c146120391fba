"""Matching: which skill fits a task, with reasons; and nothing where none does."""
