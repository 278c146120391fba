"""Reads a model's reply, once, into text, reasoning, tool calls, usage and finish reason.

=================  ==========================================================================
``body``           the JSON of an HTTP answer in any provider's dialect, and errors in a 200
``reasoning``      what a model thought aloud, set apart from what it answers
``calls``          the arguments of tool calls, and ids that are unique
``structured``     the object that is the answer, among drafts, fences and prose
``lenient``        JSON as models write it: comments, trailing commas, single quotes
``escapes``        backslashes that a model forgot to double
=================  ==========================================================================

Nothing in here raises on any input but :class:`~cmbagent_nb.llm.reading.lenient.Unreadable`, whose text
says in words for the model why its reply cannot be used.
"""
