"""The agents: their roster as data, the forms of their replies, their tools, and how one is asked."""

import cmbagent_nb.capture  # noqa: F401 (it defers the packages of AG2's providers)
