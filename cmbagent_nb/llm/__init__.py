"""Models: which one answers, what it costs, and the tape that keeps every reply."""

import cmbagent_nb.capture  # noqa: F401 (it defers the packages of AG2's providers)
