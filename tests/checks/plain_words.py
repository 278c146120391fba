"""Find docstrings and texts that are not in plain technical English.

A docstring says what its code does: its first word is not What, Which, Who, How or Where. Docstrings and texts for
users avoid the words and forms of :data:`BANNED`, each of which has a plain replacement. Packages that still hold some
are in :data:`EXEMPT` with their number, which may only shrink:
``python -m tests.checks.plain_words cmbagent_nb --update`` lowers it.

>>> problems('def size(x):\\n    "How large it is."')
['2: the docstring begins with How: begin with a verb or a noun']
>>> problems('def size(x):\\n    "Return the size, or raise when x is no list."')
['2: "is no list": write "is not a"']
>>> problems('raise ValueError(f"There is no file {x}. Nobody made it.")')
['1: "Nobody": write "no one, or name who"']
>>> problems('def size(x):\\n    "Return the size."')
[]
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_QUESTION = re.compile(r"(What|Which|Who|How|Where)\b")
#: Forms to avoid, with what to write instead.
BANNED = {
    r"(?<!there )\b(?:is|are|was) no (?!longer\b|more\b|less\b)\w+": "is not a",
    r"\banew\b": "again",
    r"\b(?:nobody|somebody)\b": "no one, or name who",
    r"\bwhoever\b": "the process or person that",
    r"\b(?:go|goes|going|gone|went) on with\b": "resume, continue",
    r"\bgone on\b": "resumed, continued",
    r"\bstands? behind\b": "supplies, implements",
    r"\b(?:is|are|was|were|be) told\b": "is reported, is notified",
    r"\bwhat (?:became|came|has become) of\b": "the outcome of",
    r"\bsaid again\b": "repeated",
    r"\bmend(?:s|ed|ing)?\b": "fix, repair",
    r"\bswept away\b": "removed",
    r"\btaken in\b": "imported, stored",
    r"\b(?:is|are) to be had\b": "is available",
    r"\bwhat is at hand\b": "the inputs at hand",
    r"\bput off\b": "deferred",
    r"\bcomes to its end\b": "ends",
    r"\ban? empty text\b": "an empty string",
    r"\bproper\b": "valid",
    r"\bhow shall\b": "what, should",
}
_BANNED = {re.compile(form, re.IGNORECASE): plain for form, plain in BANNED.items()}
#: How many problems a package may still have. Only lower these.
EXEMPT: dict[str, int] = {
    "agents": 12,
    "skills": 100,
    "verbs": 14,
    "workflow": 63,
    "workspace.py": 5,
}
_TOLD = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: Recorded replies, shipped skills and migrations, which are data or done.
_SKIPPED = re.compile(r"llm/playbooks/|skills/starter/.+/|store/migrations/versions/")


def problems(source: str) -> list[str]:
    """Return the line and the fault of each docstring or text that is not plain."""
    tree = ast.parse(source)
    docs = {id(node) for node in _docstrings(tree)}
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        text = " ".join(node.value.split())
        if id(node) in docs and (question := _QUESTION.match(text)):
            found.append((node.lineno, f"the docstring begins with {question[0]}: begin with a verb or a noun"))
        elif id(node) not in docs and " " not in text:
            continue
        found += [
            (node.lineno, f'"{match[0]}": write "{plain}"')
            for form, plain in _BANNED.items()
            for match in form.finditer(text)
        ]
    return [f"{line}: {fault}" for line, fault in sorted(found)]


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, _TOLD) and node.body and isinstance(first := node.body[0], ast.Expr):
            value = first.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value


def main(root: str, *options: str) -> int:
    """Print the problems of packages that have more than they may; with ``--update`` lower the exemptions."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(root).rglob("*.py")):
        below = path.relative_to(root).as_posix()
        if not _SKIPPED.search(below):
            package = below.partition("/")[0]
            found.setdefault(package, []).extend(
                f"{path}:{problem}" for problem in problems(path.read_text(encoding="utf-8"))
            )
    counts = Counter({package: len(lines) for package, lines in found.items() if lines})
    if "--update" in options:
        _update({package: min(count, EXEMPT.get(package, 0)) for package, count in counts.items()})
        return 0
    over = [package for package, count in counts.items() if count > EXEMPT.get(package, 0)]
    for package in over:
        print("\n".join(found[package]))
        print(f"{package}: {counts[package]} problems, {EXEMPT.get(package, 0)} are exempt")
    for package, most in EXEMPT.items():
        if counts[package] < most:
            print(f"{package}: {counts[package]} problems are left of {most}: lower its exemption with --update")
    return 1 if over else 0


def _update(counts: dict[str, int]) -> None:
    place = Path(__file__)
    lines = "".join(f'    "{package}": {count},\n' for package, count in sorted(counts.items()) if count)
    table = f"EXEMPT: dict[str, int] = {{\n{lines}}}" if lines else "EXEMPT: dict[str, int] = {}"
    text = place.read_text(encoding="utf-8")
    place.write_text(re.sub(r"(?ms)^EXEMPT: .*?\}$", lambda _: table, text, count=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
