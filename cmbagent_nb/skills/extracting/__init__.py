"""From a run, or any notebook, to a skill: its code, its parameters, its notebook."""
