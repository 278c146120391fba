"""The agents: their roster as data, the forms of their replies, their tools, and how one is asked."""
