"""Learning: what a skill's executions say about it, and the next version that follows. No model is asked."""
