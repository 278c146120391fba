"""Checks of the tests themselves, run by ``make lint``."""
