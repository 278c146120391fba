"""Looking for skills by words: in their names, descriptions, tags, tasks, parameters and code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.matching.lexical import plain
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.store.database import Database

#: Where a word may stand, and what it counts there.
_WEIGHTS = {"name": 8.0, "tags": 6.0, "description": 4.0, "task": 3.0, "parameters": 3.0, "code": 1.0}
_COLUMNS = ("name", "version", "status", "tags", "description", "found_in", "rank", "skill_id")
#: Texts of notebooks by their hash: a version of a skill does not change.
_CODE: dict[str, str] = {}
_MOST_KEPT = 20_000


def search(
    db: Database, home: Path, text: str = "", *, tags: Iterable[str] = (), status: str | None = None
) -> pd.DataFrame:
    """Return the skills that have every word of a text somewhere, the best first; all of them for an empty text.

    A word is found within longer ones (``spectr`` in ``spectrum``). Of a skill, the newest version that fits is shown.

    Parameters
    ----------
    tags
        Only skills that have all of them.
    status
        Only skills with this status: ``active``, ``draft`` or ``deprecated``.
    """
    import pandas as pd

    asked = list(dict.fromkeys(plain(text).split()))
    wanted = {str(tag).casefold() for tag in tags}
    rows = db.rows(
        "SELECT id, name, version, status, tags, description, task_pattern, parameters, notebook, notebook_hash"
        " FROM skills ORDER BY name, version DESC"
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        own_tags = [str(tag) for tag in from_json(row["tags"]) or []]
        if status not in (None, row["status"]) or not wanted <= {tag.casefold() for tag in own_tags}:
            continue
        if row["name"] in found:
            continue
        hit = _look(row, own_tags, asked, home)
        if hit is not None:
            found[row["name"]] = {
                "name": row["name"],
                "version": row["version"],
                "status": row["status"],
                "tags": own_tags,
                "description": row["description"] or "",
                "found_in": hit[1],
                "rank": hit[0],
                "skill_id": row["id"],
            }
    best = sorted(found.values(), key=lambda item: (-item["rank"], item["name"]))
    return pd.DataFrame(best, columns=list(_COLUMNS))


def _look(row: dict[str, Any], tags: list[str], asked: list[str], home: Path) -> tuple[float, list[str]] | None:
    """Return what the words count in a skill and where they stand; None when one of them is nowhere."""
    if not asked:
        return 0.0, []
    parameters = from_json(row["parameters"]) or []
    texts = {
        "name": row["name"],
        "tags": " ".join(tags),
        "description": row["description"] or "",
        "task": row["task_pattern"] or "",
        "parameters": " ".join(f"{item.get('name', '')} {item.get('help') or ''}" for item in parameters),
    }
    shown = {place: plain(text) for place, text in texts.items()}
    rank, places = 0.0, []
    missing = list(asked)
    for place, said in shown.items():
        here = [word for word in asked if word in said]
        rank += _WEIGHTS[place] * sum(1.0 if word in said.split() else 0.5 for word in here)
        missing = [word for word in missing if word not in here]
        places += [place] if here else []
    code = _code(row, home) if missing or not places else ""
    here = [word for word in missing if word in code]
    if here:
        rank += _WEIGHTS["code"] * len(here)
        places.append("code")
    return None if len(here) < len(missing) else (rank, places)


def _code(row: dict[str, Any], home: Path) -> str:
    """Return the code of a skill's notebook, as it is searched; empty when the file is gone or is no notebook."""
    key = row["notebook_hash"] or row["id"]
    if key not in _CODE:
        try:
            cells = json.loads((home / (row["notebook"] or "")).read_text(encoding="utf-8"))["cells"]
            code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        if len(_CODE) >= _MOST_KEPT:
            _CODE.clear()
        _CODE[key] = " ".join(plain_code(code))
    return _CODE[key]


def plain_code(code: str) -> list[str]:
    """Return the words of code, in lower case.

    >>> plain_code("df.to_csv('outFile.csv')")
    ['df', 'to', 'csv', 'out', 'file', 'csv']
    """
    words: list[str] = []
    for first in range(0, len(code), 3000):
        words += plain(code[first : first + 3000]).split()
    return words
