"""Matching: is the right skill found, is it told when there is none, and how long does it take?

The tasks and tools are the set ``multiple`` of bfcl-eval (200 tasks, 462 tools), fetched when this runs; each tool
stands in the library as a skill. What was tuned on it: the weight of the words beside the meaning, and the three
weights of the score (``skills/matching/hybrid.py``); ``cross_validated`` are figures with those chosen on the other
half of the tasks.

"No fitting skill" is measured in three ways:

- ``none_auroc``: each task once with all tools and once without its own. Where the set has two tools that do the
  same (``calculate_bmi`` and ``calculate_BMI``), both are left out, else a tool that fits would count as none that
  does. Which do was judged by reading the tools' descriptions: :data:`SAME`.
- ``none_auroc_as_is``: the same, without that judgement.
- ``none_auroc_other_tasks``: a library of the tools of one half of the tasks, to which the other half is foreign.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.measure import Figure, folder, median, now

PACKAGE = "bfcl-eval==2026.3.23"
ROOT = Path(__file__).resolve().parents[2]

#: Tools of the set that do the same.
SAME = [
    line.split()
    for line in """\
solve_quadratic_equation solve.quadratic_equation solve_quadratic math_roots.quadratic
calculate_bmi calculate_BMI
geometry.area_triangle triangle.area
geometry.circumference geometry_circle.calculate
sort_list array_sort
math.lcm calculate_lcm
geometry.area_circle math.circle_area
calculate_probability card_game_probability.calculate probabilities.calculate_single shuffle_card_probability
calculus.derivative calculate_derivative
math.gcd calculate_gcd
rectangle.area geometry_rectangle.calculate
calculate_return_on_equity financial_ratios.calculate_ROE
calculate_electric_field_strength electric_field.calculate
compound_interest calculate_compound_interest financial.compound_interest calc_Compound_Interest
dice_roll_probability monopoly_odds_calculator
magnetic_field.calculate electromagnetism.ampere_law electromagnetism.biot_savart_law
stock_forecast stock_market_forecast
get_shortest_driving_distance calculate_shortest_distance
math.triangle_area_heron triangle_properties.get
kinematics.calculate_displacement calculate_displacement
lawyer_finder lawyer.find_nearby
generate_sound_wave audio.generate
finance.calculate_future_value future_value
get_case_info court_case.search
lawsuits_search lawsuit_search
concert.book_ticket concert_booking.book_ticket
weather.humidity_forecast humidity_temperature_forecast""".splitlines()
]


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
def multiple() -> Set:
    """Fetch the set; its package is not a dependency of ours."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE]
        subprocess.run(command, check=True, timeout=300)
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            asked = wheel.read("bfcl_eval/data/BFCL_v4_multiple.json").decode().splitlines()
            answers = wheel.read("bfcl_eval/data/possible_answer/BFCL_v4_multiple.json").decode().splitlines()
    return read([json.loads(line) for line in asked], [json.loads(line) for line in answers])


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
        own = next(tool for tool in line["function"] if tool["name"] == name_of[line["id"]])
        tasks.append(" ".join(turn["content"] for turn in line["question"][0]))
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


class Bench:
    """The set, compared as the library compares it."""

    def __init__(self) -> None:
        from cmbagent_nb.skills.matching.embedder import choose
        from cmbagent_nb.skills.matching.index import meaning, wording

        self.set = multiple()
        rows = [as_row(tool) for tool in self.set.tools]
        self.words = [wording(row) for row in rows]
        self.names = np.array(self.set.names)
        embedder = choose("auto")
        if embedder is None:
            raise SystemExit("The benchmark needs the extra embeddings-onnx.")
        self.model = embedder.name
        self.meaning = embedder.encode(self.set.tasks) @ embedder.encode([meaning(row) for row in rows]).T
        self.same = {name: set(group) for group in SAME for name in group}

    def compare(self, tools: np.ndarray, tasks: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return, for each task: the cosine of the meaning, the lexical part, and the n-grams' cosine alone."""
        from cmbagent_nb.skills.matching.hybrid import Lexicon
        from cmbagent_nb.skills.matching.tfidf import Index

        said = [self.words[place] for place in tools]
        lexicon, plain = Lexicon(said), Index(said)
        return [
            (self.meaning[task, tools], lexicon.scores(self.set.tasks[task]), plain.scores(self.set.tasks[task]))
            for task in tasks
        ]

    def without(self, task: int, *, same: bool) -> np.ndarray:
        """Return the tools that are left when a task's own is taken away."""
        name = self.names[self.set.right[task]]
        gone = self.same.get(name, {name}) if same else {name}
        return np.flatnonzero(~np.isin(self.names, list(gone)))


def _methods() -> dict[str, Callable[[tuple[Any, Any, Any]], Any]]:
    from cmbagent_nb.skills.matching.hybrid import calibrate, combine

    return {
        "hybrid": lambda seen: calibrate(combine(seen[0], seen[1]), with_meaning=True),
        "minilm_alone": lambda seen: seen[0],
        "tfidf_alone": lambda seen: seen[2],
        "words_alone": lambda seen: calibrate(combine(None, seen[1]), with_meaning=False),
    }


def auroc(fitting: Sequence[float], foreign: Sequence[float]) -> float:
    """Return how often a task that has its tool scores higher than one that has none; a tie counts half.

    >>> auroc([0.9, 0.4], [0.1, 0.4])
    0.875
    """
    a, b = np.asarray(fitting)[:, None], np.asarray(foreign)[None, :]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def quality() -> Iterator[Figure]:
    """Top-1, and "no fitting skill" against "fitting"; MiniLM alone and TF-IDF alone beside it."""
    bench = Bench()
    tasks = range(len(bench.set.tasks))
    full = bench.compare(np.arange(len(bench.names)), tasks)
    methods = _methods()
    own = bench.names[bench.set.right]
    top = {
        name: float(np.mean([bench.names[int(np.argmax(method(seen)))] == own[task] for task, seen in enumerate(full)]))
        for name, method in methods.items()
    }
    about = {"tasks": len(tasks), "tools": len(bench.names), "model": bench.model}
    held_out = _held_out_top1(bench, full)
    yield Figure("matching.top1", top.pop("hybrid"), "", 0.80, True, more={**top, "cross_validated": held_out, **about})

    for name, same, bar in (("none_auroc", True, 0.87), ("none_auroc_as_is", False, None)):
        foreign = [bench.compare(bench.without(task, same=same), [task])[0] for task in tasks]
        found = {key: auroc(*_best(method, full, foreign)) for key, method in methods.items()}
        more = {**found, "cross_validated": _held_out_auroc(full, foreign), **_precision(bench, full, foreign)}
        yield Figure(f"matching.{name}", more.pop("hybrid"), "", bar, True, more=more)

    yield _other_tasks(bench, methods)


def _best(method: Callable[[Any], Any], fitting: Sequence[Any], foreign: Sequence[Any]) -> tuple[list[float], ...]:
    return tuple([float(np.max(method(seen))) for seen in side] for side in (fitting, foreign))


def _other_tasks(bench: Bench, methods: dict[str, Any]) -> Figure:
    found: dict[str, list[float]] = {name: [] for name in methods}
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(bench.set.tasks))
        half = len(order) // 2
        tools = np.unique([bench.set.right[task] for task in order[:half]])
        sides = bench.compare(tools, order[:half]), bench.compare(tools, order[half:])
        for name, method in methods.items():
            found[name].append(auroc(*_best(method, *sides)))
    more: dict[str, Any] = {name: float(np.mean(values)) for name, values in found.items()}
    more["library"] = "the tools of half of the tasks, 10 ways to halve them"
    return Figure("matching.none_auroc_other_tasks", more.pop("hybrid"), "", 0.87, True, more=more)


def _precision(bench: Bench, fitting: Sequence[Any], foreign: Sequence[Any]) -> dict[str, float]:
    """Return, for the limits that the settings have, how often what is offered is right, and how often it is."""
    method = _methods()["hybrid"]
    own = bench.names[bench.set.right]
    found = {}
    for limit in (0.7, 0.75):
        right = offered = had = 0
        for task, seen in enumerate(fitting):
            scores = method(seen)
            place = int(np.argmax(scores))
            if scores[place] >= limit:
                offered += 1
                had += 1
                same = bench.same.get(own[task], {own[task]})
                right += bench.names[place] in same
        offered += sum(float(np.max(method(seen))) >= limit for seen in foreign)
        found[f"right_at_{limit}"] = right / max(offered, 1)
        found[f"offered_at_{limit}"] = had / len(fitting)
    return found


def _halves(size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(size)
        yield order[: size // 2], order[size // 2 :]
        yield order[size // 2 :], order[: size // 2]


def _held_out_top1(bench: Bench, full: Sequence[Any]) -> float:
    """Return top-1 with the weight of the words chosen on the other half of the tasks."""
    right = {
        weight: np.array(
            [
                bench.names[int(np.argmax(seen[0] + weight * seen[1]))] == bench.names[bench.set.right[task]]
                for task, seen in enumerate(full)
            ]
        )
        for weight in (0.5, 1.0, 1.5, 2.0, 3.0)
    }
    found = []
    for chosen, held_out in _halves(len(full)):
        weight = max(right, key=lambda weight: right[weight][chosen].mean())
        found.append(right[weight][held_out].mean())
    return float(np.mean(found))


def _held_out_auroc(fitting: Sequence[Any], foreign: Sequence[Any]) -> float:
    """Return the AUROC with the weights of the score fitted on the other half of the tasks."""
    from cmbagent_nb.skills.matching.hybrid import combine, others

    def features(seen: Any) -> list[float]:
        totals = combine(seen[0], seen[1])
        return [float(totals.max()), others(totals), 1.0]

    a, b = (np.array([features(seen) for seen in side]) for side in (fitting, foreign))
    found = []
    for chosen, held_out in _halves(len(a)):
        weights = _logistic(np.r_[a[chosen], b[chosen]], np.r_[np.ones(len(chosen)), np.zeros(len(chosen))])
        found.append(auroc(list(a[held_out] @ weights), list(b[held_out] @ weights)))
    return float(np.mean(found))


def _logistic(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fit a logistic function by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(25):
        expected = 1 / (1 + np.exp(-features @ weights))
        curvature = (features * (expected * (1 - expected))[:, None]).T @ features + 1e-3 * np.eye(len(weights))
        weights += np.linalg.solve(curvature, features.T @ (labels - expected) - 1e-3 * weights)
    return weights


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
            workspace.match(data.tasks[0])
            first_large = now() - began
            times, busy = [], []
            for task in data.tasks[:40]:
                began, used = now(), time.process_time()
                workspace.match(task)
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
            shares, first = [], 0.0
            for turn in range(4):
                began = now()
                run = workspace.one_shot(task, auto_match=True, gates="approve").wait(120)
                seconds = now() - began
                workspace.writer.barrier().result()
                found = workspace.db.rows("SELECT * FROM skill_matches WHERE run_id = :id", id=run.id)[0]
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
workspace.match({task!r})
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
    from cmbagent_nb.skills.matching.embedder import choose
    from cmbagent_nb.skills.matching.index import meaning
    from cmbagent_nb.workspace import Workspace

    embedder = choose("auto")
    rows = [as_row(tool) for tool in data.tools]
    vectors = None if embedder is None else embedder.encode([meaning(row) for row in rows])
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
            if vectors is not None and embedder is not None:
                moved = vectors[place] + (0.02 * noise.standard_normal(384) if number >= len(rows) else 0)
                vector = (moved / np.linalg.norm(moved)).astype("<f4").tobytes()
            workspace.writer.insert(
                "skills",
                {
                    "id": new_id(), "version": 1, "status": "active", "trusted": True, "visibility": "private",
                    "verification": {"verified": True}, "preconditions": {"packages": {"numpy": np.__version__}},
                    "agent_sequence": ["engineer"], "created_at": time.time(), "task_embedding": vector,
                    "embedding_model": embedder.name if embedder else None, "usage_count": 0, "success_count": 0,
                    "failure_count": 0, **row,
                },
            )  # fmt: skip
        workspace.writer.barrier().result()
    finally:
        workspace.close()
