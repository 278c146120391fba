"""Chooses and calls models, counts their costs, and keeps every reply on the tape."""

import cmbagent_nb.capture  # noqa: F401 (it defers the packages of AG2's providers)
