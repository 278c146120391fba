"""Several skills become one: in sequence, side by side, or under a condition."""
