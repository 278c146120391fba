"""Skills: what worked once, kept as a verified, parameterized notebook that reruns without a model."""
