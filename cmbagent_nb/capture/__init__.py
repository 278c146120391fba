"""Records agents' actions as events. Capture never harms a run: its own errors are counted, not raised."""

from cmbagent_nb.capture.lazy_ag2 import defer_providers

defer_providers()  # before anything of this package, or of those above it, imports AG2
