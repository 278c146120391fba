"""Matching: is the right skill found, is it told when there is none, and how long does it take?

``matching`` measures on bfcl-eval (fetched when this runs; each tool stands in the library as a skill) and on the
subject libraries in ``tests/matching``; ``matching_limits`` fits the weight of the words, the limit and the slope
of the fit (``skills/matching/hybrid.py``) on two sets and measures them on a third:

| set | used for | tasks that fit | tasks that do not |
|---|---|---|---|
| ``tuning.yaml``: 3 subjects of 12 skills, starter skills | fitting | paraphrases | other subjects, everyday tasks |
| ``multiple`` of bfcl-eval, each task's own tools | fitting | the task | the tools of another task |
| ``held_out.yaml``: 3 other subjects, starter skills | testing | paraphrases | other subjects, everyday tasks |
| ``live_multiple`` and ``live_irrelevance``, own tools | testing | the first set's tasks | the second set's tasks |

Figures of 2026-11-30 (all-MiniLM-L6-v2 with onnxruntime; words alone):

| | with vectors | words alone |
|---|---|---|
| top-1, ``multiple`` (462 tools), ``live_multiple`` (956 tools) | 0.875, 0.794 | 0.860, 0.712 |
| AUROC of the fit, ``multiple`` against ``irrelevance`` | 0.929 | 0.902 |
| AUROC of the fit, ``live_multiple`` against ``live_irrelevance`` | 0.858 | 0.825 |
| tuning, libraries of 2 to 12: verbatim, paraphrases, foreign | 1.00, 0.90, 0.007 | 1.00, 0.90, 0.002 |
| held out, libraries of 12 and starter skills: the same | 1.00, 0.85, 0.002 | 1.00, 0.65, 0.004 |
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cmbagent_nb.skills.matching.embedder import choose
from cmbagent_nb.skills.matching.index import texts
from tests.benchmarks.measure import Figure, folder, median, now
from tests.matching_sets import Comparer, Subject, subjects

PACKAGE = "bfcl-eval==2026.3.23"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Set:
    """Tasks and tools, with the place of each task's own tool."""

    tools: list[dict[str, Any]]
    tasks: list[str]
    right: list[int]

    @property
    def names(self) -> list[str]:
        return [tool["name"] for tool in self.tools]


@cache
def _lines() -> dict[str, list[dict[str, Any]]]:
    """Fetch the lines of the sets; their package is not a dependency of ours."""
    names = ("multiple", "live_multiple", "irrelevance", "live_irrelevance")
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE]
        subprocess.run(command, check=True, timeout=300)
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            files = {name: f"bfcl_eval/data/BFCL_v4_{name}.json" for name in names}
            files |= {f"answers_{name}": f"bfcl_eval/data/possible_answer/BFCL_v4_{name}.json" for name in names[:2]}
            return {
                name: [json.loads(line) for line in wheel.read(path).decode().splitlines()]
                for name, path in files.items()
            }


@cache
def multiple(name: str = "multiple") -> Set:
    """Return the tasks and tools of ``multiple`` or ``live_multiple``."""
    return read(_lines()[name], _lines()[f"answers_{name}"])


def own_tools(name: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return each task of a set with the skills that are like its own tools."""
    return [(_said(line), [as_row(tool) for tool in line["function"]]) for line in _lines()[name] if line["function"]]


def _said(line: dict[str, Any]) -> str:
    return " ".join(turn["content"] for turns in line["question"] for turn in turns if turn["role"] == "user")


def read(asked: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]) -> Set:
    """Return the tasks and tools of the set's lines; a tool of the same name and description is the same."""
    tools: dict[tuple[str, str], dict[str, Any]] = {}
    for line in asked:
        for tool in line["function"]:
            tools.setdefault((tool["name"], tool["description"]), tool)
    place_of = {key: place for place, key in enumerate(tools)}
    name_of = {line["id"]: next(iter(line["ground_truth"][0])) for line in answers}
    tasks, right = [], []
    for line in asked:
        own = next((tool for tool in line["function"] if tool["name"] == name_of[line["id"]]), None)
        if own is None:
            continue  # the answer is none of the tools
        tasks.append(_said(line))
        right.append(place_of[own["name"], own["description"]])
    return Set(list(tools.values()), tasks, right)


def as_row(tool: dict[str, Any], name: str = "") -> dict[str, Any]:
    """Return the row of a skill that is like a tool."""
    parameters = [
        {"name": key, "type": "str", "default": "", "help": about.get("description", "")}
        for key, about in tool["parameters"]["properties"].items()
    ]
    return {
        "name": name or tool["name"],
        "description": tool["description"],
        "task_pattern": tool["description"],
        "tags": [],
        "parameters": parameters,
    }


# ---- how good it is


def auroc(fitting: Sequence[float], foreign: Sequence[float]) -> float:
    """Return how often a task that has its tool scores higher than one that has none; a tie counts half.

    >>> auroc([0.9, 0.4], [0.1, 0.4])
    0.875
    """
    a, b = np.asarray(fitting)[:, None], np.asarray(foreign)[None, :]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def comparers() -> dict[str, Comparer]:
    """Return what compares with the model and with words alone."""
    embedder = choose("auto")
    if embedder is None:
        raise SystemExit("The benchmark needs the extra embeddings-onnx.")
    return {"hybrid": Comparer(embedder), "words": Comparer(None)}


def quality() -> Iterator[Figure]:
    """Top-1 in the whole library, fit against no fit with each task's own tools, and the subject libraries."""
    both = comparers()
    for name, bar in (("multiple", 0.87), ("live_multiple", 0.79)):
        data = multiple(name)
        rows, own = [as_row(tool) for tool in data.tools], [data.names[place] for place in data.right]
        found = {}
        for key, comparer in both.items():
            best = comparer.ranks(rows, data.tasks).argmax(axis=1)
            found[key] = float(np.mean([data.names[place] == right for place, right in zip(best, own, strict=True)]))
        about = {"tasks": len(data.tasks), "tools": len(rows)}
        yield Figure(f"matching.top1_{name}", found.pop("hybrid"), "", bar, True, more={**found, **about})
    for name, foreign in (("multiple", "irrelevance"), ("live_multiple", "live_irrelevance")):
        areas = {key: auroc(*_highest(comparer, name, foreign)) for key, comparer in both.items()}
        yield Figure(f"matching.fit_auroc_{name}", areas.pop("hybrid"), "", 0.85, True, more=areas)
    for name in ("tuning", "held_out"):
        shares = {key: _shares(comparer, list(subjects(name).values())) for key, comparer in both.items()}
        for kind, bar, higher in (("verbatim", 0.95, True), ("paraphrases", 0.7, True), ("foreign", 0.02, False)):
            more = {"words": shares["words"][kind]}
            yield Figure(f"matching.{name}_{kind}", shares["hybrid"][kind], "", bar, higher, more=more)


def _highest(comparer: Comparer, *names: str) -> list[list[float]]:
    """Return the highest sum of each task of each set with its own tools."""
    found = []
    for name in names:
        asked = own_tools(name)
        if comparer.embedder is not None:
            comparer.vectors(
                [text for task, rows in asked for text in (task, *(t for row in rows for t in texts(row)))]
            )
        found.append([float(comparer.totals(rows, [task]).max()) for task, rows in asked])
    return found


def _shares(comparer: Comparer, libraries: Sequence[Subject]) -> dict[str, float]:
    """Return the mean shares of libraries of 2 to 12 skills, five of each size and subject."""
    found = []
    for library in libraries:
        for size in (2, 4, 8, 12):
            for seed in range(5 if size < len(library.rows) else 1):
                order = np.random.default_rng(seed).permutation(len(library.rows))[:size]
                found.append(comparer.offered(library.part([int(place) for place in order])))
    return {kind: float(np.mean([shares[kind] for shares in found])) for kind in found[0]}


def limits() -> Iterator[Figure]:
    """Fit the weight of the words, the limit and the slope on two sets; measure them on the third.

    The weight is that with the best AUROC, on the mean of the two sets. The limit is passed by at most 1 % of the
    foreign tasks of the subject libraries, and of the tasks of ``multiple`` beside the tools of another task. The slope
    is that of a logistic function fitted to paraphrases and foreign tasks.
    """
    tuning, asked, irrelevant = list(subjects("tuning").values()), own_tools("multiple"), own_tools("irrelevance")
    for key, comparer in comparers().items():
        found = []
        for words in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0) if key == "hybrid" else (1.0,):
            own, foreign = _sums(comparer, tuning, words)
            sides = [[_top(comparer, rows, task, words) for task, rows in some] for some in (asked, irrelevant)]
            found.append((auroc(own, foreign) / 2 + auroc(*sides) / 2, words, own, foreign))
        area, words, own, foreign = max(found)
        other = [_top(comparer, asked[place - 7][1], task, words) for place, (task, _) in enumerate(asked)]
        limit = max(float(np.quantile(foreign, 0.99)), float(np.quantile(other, 0.99)))
        held_out = [comparer.offered(one, limit, words) for one in subjects("held_out").values()]
        more = {
            "words": words,
            "slope": _slope(own, foreign),
            "auroc": area,
            "tuning_paraphrases": float(np.mean(np.array(own) >= limit)),
            **{f"held_out_{kind}": float(np.mean([one[kind] for one in held_out])) for kind in held_out[0]},
            "in_use": [comparer.fit.words, comparer.fit.limit, comparer.fit.slope],
        }
        yield Figure(f"matching.limit_{key}", limit, "", more=more)


def _sums(comparer: Comparer, libraries: Sequence[Subject], words: float) -> tuple[list[float], list[float]]:
    """Return the sums of paraphrases with their own skills, and the highest of each foreign task."""
    own: list[float] = []
    foreign: list[float] = []
    for one in libraries:
        totals = comparer.totals(one.rows, [task for task, _ in one.paraphrases], words)
        own += [float(some[place]) for some, (_, place) in zip(totals, one.paraphrases, strict=True)]
        foreign += comparer.totals(one.rows, one.foreign, words).max(axis=1).tolist()
    return own, foreign


def _top(comparer: Comparer, rows: Sequence[dict[str, Any]], task: str, words: float | None = None) -> float:
    """Return the highest sum of a task with some tools."""
    return float(comparer.totals(rows, [task], words).max())


def _slope(fitting: Sequence[float], foreign: Sequence[float]) -> float:
    """Return the slope of a logistic function that tells the two apart, both sides counting alike."""
    features = np.c_[np.r_[fitting, foreign], np.ones(len(fitting) + len(foreign))]
    labels = np.r_[np.ones(len(fitting)), np.zeros(len(foreign))]
    counted = np.r_[np.full(len(fitting), 1 / len(fitting)), np.full(len(foreign), 1 / len(foreign))]
    weights = np.zeros(2)
    for _ in range(50):
        expected = 1 / (1 + np.exp(-features @ weights))
        curvature = (features * (counted * expected * (1 - expected))[:, None]).T @ features + 1e-9 * np.eye(2)
        weights += np.linalg.solve(curvature, features.T @ (counted * (labels - expected)))
    return float(weights[0])


# ---- how long it takes


def speed() -> Iterator[Figure]:
    """10,000 skills with the model loaded; the first match of a process; the first without network or model."""
    from cmbagent_nb.workspace import Workspace

    data = multiple()
    with folder() as home:
        small, large = home / "small", home / "large"
        fill(small, data, 100)
        fill(large, data, 10_000)
        workspace = Workspace(large)
        try:
            began = now()
            workspace.skills.match(data.tasks[0])
            first_large = now() - began
            times, busy = [], []
            for task in data.tasks[:40]:
                began, used = now(), time.process_time()
                workspace.skills.match(task)
                times.append(now() - began)
                busy.append(time.process_time() - used)
        finally:
            workspace.close()
        more = {"least_ms": min(times) * 1e3, "cpu_ms": median(busy) * 1e3, "first_s": first_large, "skills": 10_000}
        yield Figure("matching.match_10000", median(times) * 1e3, "ms", 50.0, more=more)

        task = data.tasks[1]
        with_model = [_first(small, task, {}) for _ in range(5)]
        yield Figure(
            "matching.first_use", min(with_model), "s", 2.0, more={"median_s": median(with_model), "skills": 100}
        )
        offline = [_first(small, task, {"CMBAGENT_EMBEDDINGS": "tfidf", **NO_NETWORK}) for _ in range(3)]
        refused = _first(small, task, NO_NETWORK)
        yield Figure(
            "matching.first_without_network", min(offline), "s", 2.0, more={"with_model_s": refused, "skills": 100}
        )


def share() -> Iterator[Figure]:
    """Matching's share of a run that looks for a skill, finds one and runs it, the model loaded."""
    from cmbagent_nb.workspace import Workspace

    task = "Fit H0 and Omega_m to the expansion rate H(z) measured by cosmic chronometers, and draw the fit"
    with folder() as home:
        os.environ["CMBAGENT_STARTER_SKILLS"] = "yes"
        workspace = Workspace(home)
        try:
            shares: list[float] = []
            first = 0.0
            for turn in range(4):
                began = now()
                run = workspace.one_shot(task, auto_match=True, gates="approve").wait(120)
                seconds = now() - began
                workspace._core.writer.barrier().result()
                found = workspace._core.db.rows("SELECT * FROM skill_matches WHERE run_id = :id", id=run.id)[0]
                if run.status != "completed" or found["status"] != "applied":
                    raise SystemExit(f"The skill did not run: {run.error}")
                part = found["duration_ms"] / 1e3 / seconds
                shares, first = ([*shares, part], first) if turn else (shares, part)
        finally:
            workspace.close()
    yield Figure("matching.share_of_a_run", median(shares) * 100, "%", 5.0, more={"first_with_model_load": first * 100})


#: Nothing can be reached: whoever tries is sent to a port on which nobody listens.
NO_NETWORK = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_ENDPOINT"), "http://127.0.0.1:9"
)

FIRST = """
import time
began = time.perf_counter()
import cmbagent_nb as cmb
workspace = cmb.Workspace({home!r})
workspace.skills.match({task!r})
print(time.perf_counter() - began)
workspace.close()
"""


def _first(home: Path, task: str, more: dict[str, str]) -> float:
    """Return the seconds of a process's first match, with all that it imports, opens and loads."""
    environment = {**os.environ, "CMBAGENT_STARTER_SKILLS": "no", **more}
    done = subprocess.run(
        [sys.executable, "-c", FIRST.format(home=str(home), task=task)],
        check=True, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment,
    )  # fmt: skip
    return float(done.stdout.strip().splitlines()[-1])


def fill(home: Path, data: Set, count: int) -> None:
    """Make a workspace with so many skills, their vectors made before; copies of a tool differ by what is added."""
    from cmbagent_nb.ids import new_id
    from cmbagent_nb.workspace import Workspace

    embedder = choose("auto")
    rows = [as_row(tool) for tool in data.tools]
    vectors = [] if embedder is None else [embedder.encode(texts(row)) for row in rows]
    noise = np.random.default_rng(0)
    os.environ["CMBAGENT_STARTER_SKILLS"] = "no"
    workspace = Workspace(home)
    try:
        for number in range(count):
            place = number % len(rows)
            row = dict(rows[place])
            if number >= len(rows):
                other = rows[int(noise.integers(len(rows)))]
                row["description"] = f"{row['description']} {other['name']}"
            row["name"] = f"{row['name']}_{number}"
            vector = None
            if vectors:
                own = vectors[place][[0, *[1] * (len(texts(row)) - 1)]]
                moved = own + (0.02 * noise.standard_normal(own.shape) if number >= len(rows) else 0)
                vector = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype("<f4").tobytes()
            workspace._core.writer.insert(
                "skills",
                {
                    "id": new_id(), "version": 1, "status": "active", "trusted": True, "visibility": "private",
                    "verification": {"verified": True}, "preconditions": {"packages": {"numpy": np.__version__}},
                    "agent_sequence": ["engineer"], "created_at": time.time(), "task_embedding": vector,
                    "embedding_model": embedder.name if embedder else None, "usage_count": 0, "success_count": 0,
                    "failure_count": 0, **row,
                },
            )  # fmt: skip
        workspace._core.writer.barrier().result()
    finally:
        workspace.close()
