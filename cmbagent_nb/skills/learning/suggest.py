"""Suggests skills: sequences of steps that succeeded in several runs, with the runs as evidence.

Steps are the same where their codes are, whatever names and values they use (:func:`code_hash`). A sequence
that a longer one with the same runs contains is not suggested, nor one of which a skill has been made.
"""

from __future__ import annotations

import ast
import hashlib
import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database

#: Codes with fewer statements than this are too short to tell anything by.
LEAST = 3
#: Steps that a suggestion can have, and runs that are looked through, the newest first.
_LONGEST, _MOST_RUNS = 8, 2000
_DULL = frozenset(
    "the a an of and or to in on for with by from step data file this that it is are as into all".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Suggestion:
    """A sequence of steps worth a skill: in which runs it succeeded, and the call that makes the skill."""

    name: str
    titles: list[str]
    agents: list[str]
    #: Each run with its name and the nodes of the sequence.
    evidence: list[dict[str, Any]] = field(default_factory=list)
    call: str = ""

    @property
    def runs(self) -> int:
        """In how many runs it succeeded."""
        return len(self.evidence)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {**asdict(self), "runs": self.runs}

    def __str__(self) -> str:
        steps = " → ".join(self.titles)
        return f"{self.name}: {steps}, in {self.runs} runs; {self.call}"

    def _repr_html_(self) -> str:
        return f'<div class="cmbagent-suggestion">{html.escape(str(self))}</div>'


@dataclass(frozen=True)
class _Step:
    node_id: str
    title: str
    agent: str
    code: str  #: :func:`code_hash`


@dataclass(frozen=True)
class _Run:
    id: str
    name: str
    task: str
    steps: list[_Step]


def suggest(db: Database, *, min_runs: int = 3) -> list[Suggestion]:
    """Return the sequences that succeeded in at least ``min_runs`` runs, those of most runs and steps first."""
    runs = _read(db)
    found = _sequences([[step.code for step in run.steps] for run in runs], min_runs)
    taken = {
        (row["source_run_id"], frozenset(_nodes(row["source_step_range"])))
        for row in db.rows("SELECT source_run_id, source_step_range FROM skills WHERE source_run_id IS NOT NULL")
    }
    suggestions = []
    for sequence, places in found.items():
        evidence = []
        covered = False
        for run, at in places:
            own = runs[run].steps[at : at + len(sequence)]
            nodes = [step.node_id for step in own]
            covered = covered or any(source == runs[run].id and set(nodes) <= known for source, known in taken)
            evidence.append({"run_id": runs[run].id, "run": runs[run].name, "task": runs[run].task, "steps": nodes})
        if not covered:
            suggestions.append(_suggestion(runs, places, len(sequence), evidence))
    return sorted(suggestions, key=lambda item: (-item.runs * len(item.titles), item.name))


class _Normal(ast.NodeTransformer):
    """Takes names, values, annotations, imports, prints and docstrings out of a code; called functions keep names."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def visit(self, node: ast.AST) -> Any:
        return None if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass)) else super().visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        printed = isinstance(called, ast.Name) and called.id == "print"
        return None if printed or isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        kept = node.func
        self.generic_visit(node)
        if isinstance(kept, ast.Name):
            node.func = kept
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names.setdefault(node.id, f"n{len(self.names)}"), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self.names.setdefault(node.arg, f"n{len(self.names)}"))

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(type(node.value).__name__)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("str")


def code_hash(code: str) -> str:
    """Return a hash of a code that does not depend on its names and values; empty for one that says too little.

    >>> code_hash("x = 1\\ny = x\\nprint(y)\\nz = y") == code_hash("import os\\na = 2\\nb = a\\nc = b") != ""
    True
    """
    try:
        tree = _Normal().visit(ast.parse(code))
    except (SyntaxError, ValueError):
        return ""
    enough = sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) >= LEAST
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest() if enough else ""


def _sequences(rows: list[list[str]], min_runs: int) -> dict[tuple[str, ...], list[tuple[int, int]]]:
    """Return the sequences of enough runs, with a place in each; none that a longer one of the same runs contains."""
    found: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for length in range(1, _LONGEST + 1):
        here: dict[tuple[str, ...], dict[int, int]] = {}
        for number, row in enumerate(rows):
            for at in range(len(row) - length + 1):
                if all(own := tuple(row[at : at + length])):
                    here.setdefault(own, {}).setdefault(number, at)
        enough = {key: sorted(places.items()) for key, places in here.items() if len(places) >= min_runs}
        if not enough:
            break
        for key, places in enough.items():
            for shorter in (key[1:], key[:-1]):
                if shorter in found and {run for run, _ in found[shorter]} <= {run for run, _ in places}:
                    del found[shorter]
        found |= enough
    return found


def _suggestion(
    runs: list[_Run], places: Sequence[tuple[int, int]], length: int, evidence: list[dict[str, Any]]
) -> Suggestion:
    newest, at = places[0]
    steps = runs[newest].steps[at : at + length]
    texts = [run["task"] for run in evidence]
    texts += [step.title for run, place in places for step in runs[run].steps[place : place + length]]
    words = Counter(word for text in texts for word in re.findall(r"[a-z][a-z0-9]+", text.lower()) if word not in _DULL)
    name = "_".join(word for word, _ in words.most_common(3)) or "steps"
    choice = ",".join(step.node_id.removeprefix("step_") for step in steps)
    call = f"ws.run({evidence[0]['run']!r}).extract_skill({name!r}, steps={choice!r})"
    return Suggestion(name, [step.title for step in steps], [step.agent for step in steps], evidence, call)


def _nodes(value: Any) -> list[str]:
    from cmbagent_nb.store.json import from_json

    held = from_json(value) if isinstance(value, str) else value
    return [str(item) for item in held] if isinstance(held, list) else []


def _read(db: Database) -> list[_Run]:
    """Return the steps that succeeded with code, of the runs that did, the newest run first."""
    from cmbagent_nb.store.json import from_json

    wanted = (
        "SELECT id, name, task_description, work_dir FROM workflow_runs"
        f" WHERE status = 'completed' AND mode <> 'skill' ORDER BY created_at DESC, id DESC LIMIT {_MOST_RUNS}"
    )
    found = db.rows(wanted)
    among = f"(SELECT id FROM ({wanted}) AS wanted)"
    titles = {
        (row["run_id"], row["node_id"]): row
        for row in db.rows(
            f"SELECT run_id, node_id, title, agent, status, step_number FROM workflow_steps WHERE run_id IN {among}"
        )
    }
    events = db.rows(
        "SELECT run_id, node_id, inputs, execution_order FROM execution_events WHERE event_type = 'code_exec'"
        f" AND status = 'completed' AND run_id IN {among} ORDER BY run_id, execution_order"
    )
    codes: dict[str, dict[str, str]] = {}
    folders = {row["id"]: Path(row["work_dir"] or "") for row in found}
    for event in events:
        inputs = from_json(event["inputs"]) if event["inputs"] else {}
        code = inputs.get("code") or inputs.get("python_code") if isinstance(inputs, dict) else None
        if not code and isinstance(inputs, dict) and inputs.get("path"):
            place = folders[event["run_id"]] / str(inputs["path"])
            code = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else None
        step = titles.get((event["run_id"], event["node_id"]))
        if code and (step is None or step["status"] == "completed"):
            codes.setdefault(event["run_id"], {})[event["node_id"]] = str(code)
    runs = []
    for row in found:
        own = codes.get(row["id"], {})
        order = sorted(own, key=lambda node: (titles.get((row["id"], node)) or {}).get("step_number") or 0)
        steps = []
        for node in order:
            about = titles.get((row["id"], node)) or {}
            steps.append(_Step(node, about.get("title") or node, about.get("agent") or "", code_hash(own[node])))
        if steps:
            runs.append(_Run(row["id"], row["name"] or row["id"], row["task_description"] or "", steps))
    return runs
