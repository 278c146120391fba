"""Plans, graphs, states and the engine that carries a run from its task to its end."""
