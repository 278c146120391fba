"""Rewrites a cell with ``--wait`` into an ``await``, so that clicks arrive while it waits.

IPython does not await what a magic returns, and a magic that blocks would keep the buttons from
being heard on some kernels; an ``await`` in the cell does neither.
"""

from __future__ import annotations

import re
import shlex

_MAGIC = re.compile(r"^%%cmbagent(?:\s+(?P<line>.*))?$")


def rewrite(lines: list[str]) -> list[str]:
    """Rewrite a ``%%cmbagent … --wait`` cell; leave every other cell as it is.

    >>> rewrite(["%%cmbagent --wait\\n", "Say hello.\\n"])
    ["await __import__('cmbagent_nb.notebook.magics', fromlist=['wait']).wait('--wait', 'Say hello.\\\\n')\\n"]
    >>> rewrite(["%%cmbagent\\n", "Say hello.\\n"])
    ['%%cmbagent\\n', 'Say hello.\\n']
    """
    first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    found = _MAGIC.match(lines[first].strip()) if first < len(lines) else None
    if found is None or not _waits(found["line"] or ""):
        return lines
    body = "".join(lines[first + 1 :])
    call = f"__import__('cmbagent_nb.notebook.magics', fromlist=['wait']).wait({found['line']!r}, {body!r})"
    return [f"await {call}\n"]


def _waits(line: str) -> bool:
    try:
        return "--wait" in shlex.split(line)
    except ValueError:
        return False
