"""Whether a skill fits: it does not depend on the other skills, and ordinary questions find what there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmbagent_nb.skills.matching import embedder, weights
from cmbagent_nb.skills.matching.hybrid import fit
from cmbagent_nb.skills.matching.index import parts, texts, wording
from cmbagent_nb.skills.matching.lexical import Lexicon, key, keys, weight
from cmbagent_nb.workspace import Workspace
from tests.matching_sets import Comparer, subjects
from tests.skill_runs import Home
from tests.test_matching import model, put

__all__ = ["model"]

HAS_ONNX = not weights.missing(weights.ONNX)
SUBJECTS = [
    (name, subject) for name in ("tuning", "held_out") for subject in sorted(subjects(name)) if subject != "starter"
]


@pytest.fixture(scope="module", params=["onnx", "torch", "tfidf"])
def comparer(request: pytest.FixtureRequest) -> Comparer:
    """Each way to compare texts, every text embedded once."""
    missing = {"onnx": weights.ONNX, "torch": weights.TORCH}.get(request.param)
    if missing is not None and weights.missing(missing):
        pytest.skip("the extra is not installed")
    return Comparer(embedder.choose(request.param))


def fill(workspace: Workspace, rows: list[dict[str, Any]]) -> Home:
    """Put skills into the library."""
    home = Home(workspace.home, workspace._core.db, workspace._core.writer)
    for row in rows:
        put(home, row["name"], row["task_pattern"], description=row["description"])
    return home


def scores(workspace: Workspace, task: str) -> dict[str, float]:
    """Return the score of every skill that can be offered."""
    frame = workspace.skills.explain(task, k=100)
    return dict(zip(frame["name"], frame["score"], strict=True))


# ---- the fit is the skill's own


def test_skills_that_come_change_no_score(workspace: Workspace, model: str) -> None:
    """Of a library of 2 skills and of 14, of which some are copies: each has the score that it had."""
    rows = subjects("tuning")["cmb"].rows
    tasks = [rows[0]["task_pattern"], "where are the acoustic peaks?", "write an email"]
    home = fill(workspace, rows[:2])
    before = [scores(workspace, task) for task in tasks]
    assert before[0][rows[0]["name"]] > 0.95
    fill(workspace, rows[2:])
    for number, row in enumerate(rows[:2]):
        put(home, f"copy_{number}", row["task_pattern"], description=row["description"])
    for task, known in zip(tasks, before, strict=True):
        after = scores(workspace, task)
        assert len(after) == 14 and {name: after[name] for name in known} == pytest.approx(known, abs=2e-4)
        assert after["copy_0"] == pytest.approx(after[rows[0]["name"]], abs=0.1)


_WORDS = st.lists(st.sampled_from(["fit", "plot", "Hubble", "H0", "Planck", "spectra", "star", "noise"]), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_WORDS.map(" ".join), min_size=1, max_size=8), st.lists(st.text(max_size=40), max_size=8), st.text())
def test_no_text_changes_the_fit_of_another(said: list[str], more: list[str], task: str) -> None:
    """Whatever comes to the library, before or after: words weigh what they weigh in English."""
    for asked in (*said, task):
        alone = [float(Lexicon([text]).scores(asked)[0]) for text in said]
        assert Lexicon([*more, *said, *more]).scores(asked)[len(more) :][: len(said)].tolist() == alone


def test_drafts_and_untrusted_copies_are_no_rivals(workspace: Workspace, model: str) -> None:
    """A skill's own task finds it, however many copies are drafts, deprecated or untrusted; these are not."""
    row = subjects("tuning")["stars"].rows[0]
    home = fill(workspace, [row])
    alone = workspace.skills.match(row["task_pattern"])
    assert [item.name for item in alone] == [row["name"]] and alone[0].score > 0.95
    for number in range(30):
        put(home, f"draft_{number}", row["task_pattern"], status=["draft", "deprecated"][number % 2])
        put(home, f"foreign_{number}", row["task_pattern"], trusted=False)
    found = workspace.skills.match(row["task_pattern"])
    assert [item.name for item in found] == [row["name"]] and found[0].score == pytest.approx(alone[0].score, abs=2e-4)
    shown = workspace.skills.explain(row["task_pattern"])
    assert not shown[shown["name"].str.startswith("foreign")]["fits"].any()
    assert "not trusted" in shown.iloc[1]["reason"]


def test_a_draft_of_the_next_version_changes_nothing(workspace: Workspace, model: str) -> None:
    """The texts of the version that would run count, not those of another."""
    row = subjects("tuning")["stars"].rows[0]
    home = fill(workspace, [row])
    before = scores(workspace, row["task_pattern"])
    put(home, row["name"], "Write a letter to the dean", version=2, status="draft")
    assert scores(workspace, row["task_pattern"]) == pytest.approx(before, abs=2e-4)
    assert workspace.skills.match("Write a letter to the dean") == []
    put(home, row["name"], "Write a letter to the dean", version=3)
    assert workspace.skills.match(row["task_pattern"]) == []
    assert [item.version for item in workspace.skills.match("Write a letter to the dean")] == [3]


def test_copies_that_fit_alike_are_both_offered(workspace: Workspace, model: str) -> None:
    """Which of them is a question for a person; each is told as close to the other."""
    row = subjects("tuning")["rna_seq"].rows[3]
    home = fill(workspace, subjects("tuning")["rna_seq"].rows)
    put(home, "the_copy", row["task_pattern"])
    found = workspace.skills.match(row["task_pattern"])
    assert {item.name for item in found[:2]} == {row["name"], "the_copy"}


# ---- libraries on one subject


@pytest.mark.parametrize(("name", "subject"), SUBJECTS)
def test_a_library_on_one_subject(name: str, subject: str, comparer: Comparer) -> None:
    """Libraries of 2 to 12 skills: own tasks, paraphrases, foreign tasks."""
    library = subjects(name)[subject]
    found = []
    for size in (2, 5, 12):
        order = np.random.default_rng(size).permutation(len(library.rows))[:size]
        found.append(comparer.offered(library.part([int(place) for place in order])))
    shares = {kind: float(np.mean([one[kind] for one in found])) for kind in found[0]}
    assert shares["verbatim"] >= 0.95
    assert shares["foreign"] <= 0.02
    assert shares["paraphrases"] >= (0.7 if comparer.embedder is not None else 0.5)


@pytest.mark.parametrize("name", ["tuning", "held_out"])
def test_ordinary_questions_find_the_starter_skills(name: str, comparer: Comparer) -> None:
    """Questions of experts and others, short and long; and everyday tasks find nothing."""
    shares = comparer.offered(subjects(name)["starter"])
    assert shares["verbatim"] == 1.0
    assert shares["paraphrases"] >= (0.8 if comparer.embedder is not None else 0.65)
    assert shares["foreign"] <= (0.02 if comparer.embedder is not None else 0.03)


@pytest.mark.parametrize(
    ("task", "skill"),
    [
        ("find the period of a variable star", "periodogram"),
        ("explore my data", "table-exploration"),
        ("fit the Hubble constant to cosmic chronometers", "hz-fit"),
        ("plot the Hubble diagram of supernovae", "supernova-hubble-diagram"),
        ("what does DESI say about Omega_m?", "desi-bao-fit"),
        ("compare my cosmology with Planck", "planck-tt-spectrum"),
        ("sort a list", ""),
        ("write an email", ""),
        ("make a plot of my CV", ""),
    ],
)
def test_a_question_in_a_workspace(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, model: str, task: str, skill: str
) -> None:
    """Through the library, with its tags, kinds of files and feedback."""
    monkeypatch.delenv("CMBAGENT_STARTER_SKILLS", raising=False)
    workspace = Workspace(tmp_path_factory.mktemp("starter") / "home")
    try:
        assert [item.name for item in workspace.skills.match(task, k=1)] == ([skill] if skill else [])
    finally:
        workspace.close()


# ---- words


def test_spellings_are_one_word() -> None:
    """British and American, singular and plural, noun and adjective."""
    for pair in (
        "colour color", "analyse analyze", "modelling modeling", "centre center", "normalise normalize",
        "periods periodicity", "galaxies galaxy", "supernova supernovae", "spectrum spectra",
        "polarisation polarization",
        "metres meter", "labelled labeled", "correlated correlation", "behaviour behavior",
    ):  # fmt: skip
        first, second = pair.split()
        assert key(first) == key(second), pair
    assert keys("the of and please") == frozenset()
    assert 0 < weight(key("plot")) < weight(key("star")) < weight(key("chronometer")) <= 1


def test_the_texts_of_a_skill() -> None:
    """A task that is a skill's own is one of the texts whose vectors are kept; equal texts are kept once."""
    row = {"name": "a_b", "description": "D", "task_pattern": "T", "parameters": [], "tags": ["x"]}
    assert texts(row) == ["a b. D T", "D", "T"] and parts({**row, "description": " T "}) == ["T"]
    assert parts({**row, "description": None, "task_pattern": None}) == [] and wording(row) == "a_b. D T x"
    assert fit(None, np.zeros(1, np.float32))[0] < 0.1
