"""Running a skill: checked first, in a kernel of its own, over a grid, or as a run with agents to fall back on."""
