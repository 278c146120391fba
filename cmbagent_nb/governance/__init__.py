"""Governance: what a run may spend and do."""
