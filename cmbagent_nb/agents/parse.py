"""Reads agents' replies in their forms; how is the matter of ``cmbagent_nb.llm.reading``."""

from __future__ import annotations

from cmbagent_nb.llm.reading.lenient import Unreadable as UnreadableError
from cmbagent_nb.llm.reading.structured import find_json
from cmbagent_nb.llm.reading.structured import read_structured as read_reply

__all__ = ["UnreadableError", "find_json", "read_reply"]
