"""Classifies the error that an attempt ended with.

>>> category("KeyError", "'DM_over_rd'")
'key_error'
>>> category("ModuleNotFoundError", "No module named 'healpy'")
'import_error'
>>> category("", "killed after 10 s")
'unknown'
"""

from __future__ import annotations

from collections.abc import Mapping

#: The categories of CMBAgent's record, by the name of the exception.
CATEGORIES: Mapping[str, str] = {
    "FileNotFoundError": "file_not_found",
    "NotADirectoryError": "file_not_found",
    "TimeoutError": "timeout",
    "ImportError": "import_error",
    "ModuleNotFoundError": "import_error",
    "TypeError": "type_error",
    "ValueError": "value_error",
    "LinAlgError": "value_error",
    "KeyError": "key_error",
    "AttributeError": "attribute_error",
    "IndexError": "index_error",
    "PermissionError": "permission_error",
    "ConnectionError": "connection_error",
    "MemoryError": "memory_error",
}


def category(error_type: str, message: str, status: str = "failed") -> str:
    """Return the category of an error, ``"unknown"`` when there is none for it."""
    if status in ("timeout", "memory"):
        return {"timeout": "timeout", "memory": "memory_error"}[status]
    name = error_type.rpartition(".")[2]
    return CATEGORIES.get(name, "unknown")
