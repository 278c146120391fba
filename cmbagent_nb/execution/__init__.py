"""Running code that a model wrote: folders, limits, the environment, and what came of it."""
