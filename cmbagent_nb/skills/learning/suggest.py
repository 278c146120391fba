"""Skills that could be made: sequences of steps that succeeded in several runs, with the runs as evidence.

Steps are the same where their codes are alike, statement by statement, whatever names and values they use
(:mod:`codes`). A sequence that a longer one with the same runs contains is not suggested, nor one of which
a skill has been made.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.learning.codes import LEAST, Fingerprint, fingerprint, groups

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database

ALIKE = 0.7
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
    print: Fingerprint


@dataclass(frozen=True)
class _Run:
    id: str
    name: str
    task: str
    steps: list[_Step]


def suggest(db: Database, *, min_runs: int = 3) -> list[Suggestion]:
    """Return the sequences that succeeded in at least ``min_runs`` runs, those of most runs and steps first."""
    runs = _read(db)
    steps = [step for run in runs for step in run.steps]
    numbers = iter(groups([step.print for step in steps], ALIKE))
    rows = [[next(numbers) for _ in run.steps] for run in runs]
    found = _sequences(runs, rows, min_runs)
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


def _sequences(runs: list[_Run], rows: list[list[int]], min_runs: int) -> dict[tuple[int, ...], list[tuple[int, int]]]:
    """Return the sequences of enough runs, with a place in each; none that a longer one of the same runs contains."""
    found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for length in range(1, _LONGEST + 1):
        here: dict[tuple[int, ...], dict[int, int]] = {}
        for number, row in enumerate(rows):
            for at in range(len(row) - length + 1):
                if all(len(step.print) >= LEAST for step in runs[number].steps[at : at + length]):
                    here.setdefault(tuple(row[at : at + length]), {}).setdefault(number, at)
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
            steps.append(_Step(node, about.get("title") or node, about.get("agent") or "", fingerprint(own[node])))
        if steps:
            runs.append(_Run(row["id"], row["name"] or row["id"], row["task_description"] or "", steps))
    return runs
