"""Holds the version of the package, so that modules can read it without importing the package's root."""

__version__ = "0.1.0"
