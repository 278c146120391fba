"""Capture: what agents do, turned into events. It never harms a run: its own faults are counted, not raised."""

from cmbagent_nb.capture.lazy_ag2 import defer_providers

defer_providers()  # before anything of this package, or of those above it, imports AG2
