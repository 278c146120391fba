"""Whether a skill does what it was made from: run anew, compared, its parameters tried."""
