"""Capture: what agents do, turned into events. It never harms a run: its own faults are counted, not raised."""
