"""The starter skills: whole, what a run of their playbooks makes today, in the library when it is first looked at."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmbagent_nb import datasets
from cmbagent_nb.errors import SkillError, SkillUntrusted
from cmbagent_nb.llm.playbook import Playbook
from cmbagent_nb.skills.starter import install
from cmbagent_nb.skills.verifying.compare import compare
from cmbagent_nb.workspace import Workspace
from tests.held import verify_again
from tests.make_starter import RECIPES, make
from tests.shared_skill import package, put, resealed

#: Made anew in every test run; the others, which take CAMB or a whole plan, with the large counts.
QUICK = ["hz-fit", "table-exploration"]
SLOW = [name for name in RECIPES if name not in QUICK]
#: Values to run each with, and a number that must differ from that of the defaults.
VARIED = {
    "planck-tt-spectrum": ({"LMAX": 1200}, "bins"),
    "desi-bao-fit": ({"GRID_POINTS": 31}, None),
    "supernova-hubble-diagram": ({"Z_MIN": 0.05}, "omega_m"),
    "hz-fit": ({"Z_MAX": 1.2}, "H0"),
    "table-exploration": ({"OUTLIER_IQR": 0.5}, None),
    "periodogram": ({"MAX_PERIOD": 0.8}, "strongest_period"),
}
EXPECTED_NUMBERS = {
    "planck-tt-spectrum": {"chi2": 207.6, "bins": 215},
    "desi-bao-fit": {"omega_m": 0.2975, "h_r_d": 101.54, "chi2": 10.271},
    "supernova-hubble-diagram": {"omega_m": 0.350, "supernovae": 1590},
    "hz-fit": {"H0": 71.03, "chi2": 11.655},
    "table-exploration": {"rows": 344, "missing_values": 19},
    "periodogram": {"strongest_period": 1.0},
}


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with the starter skills."""
    workspace.skills.install_starter()
    return workspace


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_shipped_is_whole_small_and_names_no_machine() -> None:
    assert [path.name for path in install.shipped()] == sorted(RECIPES)
    total = 0
    for folder in install.shipped():
        found = files(folder)
        total += sum(map(len, found.values()))
        row = json.loads(found["skill.json"])
        assert row["verification"]["verified"] and row["license"] == "Apache-2.0" and row["visibility"] == "public"
        assert row["preconditions"]["packages"]["python"] and row["parameters"]
        assert set(row["postconditions"]["files"]) == {
            path.removeprefix("expected/") for path in found if path.startswith("expected/")
        }
        for path in ("skill.json", "notebook.ipynb", "SKILL.md", "manifest.json"):
            text = found[path].decode()
            for trace in ("/tmp/", "/home/", "/root", "/work", "/Users", '"id": "0', "duration_s"):
                assert trace not in text, f"{folder.name}/{path} has {trace}"
        for path in found:
            assert found[path] or "/" in path, f"{path} is empty"
        playbook = Playbook.load(RECIPES[folder.name].playbook)
        assert "no model is called" in playbook.note
    assert total < 1_200_000
    assert "camb" in json.loads(files(install.FOLDER / "planck-tt-spectrum")["skill.json"])["preconditions"]["packages"]


def test_other_programs_can_read_them() -> None:
    from ag2.tools.skills import SkillPlugin
    from ag2.tools.skills.runtime.local.loader import SkillLoader

    assert [skill.name for skill in SkillLoader(install.FOLDER, strict=True).discover()] == sorted(RECIPES)
    assert "supernova-hubble-diagram" in str(SkillPlugin(install.FOLDER).__dict__)


def test_the_first_look_at_the_library_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMBAGENT_STARTER_SKILLS")
    workspace = Workspace(tmp_path / "home")
    try:
        assert workspace.skills.get("periodogram").info.trusted
        frame = workspace.skills.list()
        assert sorted(frame["name"]) == sorted(RECIPES) and set(frame["status"]) == {"active"}
        assert all("starter" in tags for tags in frame["tags"]) and frame["trusted"].all()
        assert workspace.skills.install_starter() == [] and len(workspace.skills.list()) == 6
        skill = workspace.skills.get("hz-fit")
        packages = json.loads(files(install.FOLDER / "hz-fit")["skill.json"])["preconditions"]["packages"]
        assert f"when it was made ({', '.join(f'{key} {value}' for key, value in packages.items())})" in str(skill)
        assert skill.info.meta["trust"]["how"] == "starter" and skill.info.source_run_id is None
    finally:
        workspace.close()


def test_a_setting_keeps_them_away(workspace: Workspace) -> None:
    assert workspace.skills.list().empty
    assert not (workspace.home / "skills").exists()


@pytest.mark.timing
def test_installing_is_cheap(workspace: Workspace) -> None:
    """The processor's time, since others may be at work; the least of three, in a library that is new each time."""
    workspace._core.writer.barrier().result()
    install.index()
    spent = []
    for _ in range(3):
        began = time.process_time()
        assert len(workspace.skills.install_starter()) == 6
        spent.append(time.process_time() - began)
        for name in RECIPES:
            workspace.skills.delete(name)
        (workspace.home / "skills" / ".starter.json").unlink()
    assert min(spent) < 0.1
    workspace.skills.install_starter()
    began = time.process_time()
    for _ in range(20):
        workspace.skills._open()
        workspace.skills.install_starter()
    assert (time.process_time() - began) / 20 < 0.005


def test_a_skill_of_the_users_is_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    own = workspace.skills.import_(put(package("hz-fit"), tmp_path / "in")).trust()
    assert "hz-fit" not in workspace.skills.install_starter()
    assert workspace.skills.get("hz-fit").id == own.id and len(workspace.skills.list()) == 6


def test_one_that_was_deleted_stays_away(filled: Workspace) -> None:
    filled.skills.delete("hz-fit")
    assert filled.skills.install_starter() == []
    assert "hz-fit" not in set(filled.skills.list()["name"])


def test_a_newer_one_becomes_the_next_version(
    filled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update of the package: the changed one only, and not one that was deleted."""
    from cmbagent_nb.skills.sharing.package import read_package

    filled.skills.delete("periodogram")
    shutil.copytree(install.FOLDER, tmp_path / "shipped", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("hz-fit", "periodogram"):
        folder = tmp_path / "shipped" / name
        shipped = read_package(folder)
        text = shipped.files["notebook.ipynb"].replace(b"highest redshift used", b"the highest redshift")
        put(resealed(shipped, **{"notebook.ipynb": text + b"\n"}), folder)
    monkeypatch.setattr(install, "FOLDER", tmp_path / "shipped")
    install.index.cache_clear()
    try:
        assert filled.skills.install_starter() == ["hz-fit"]
    finally:
        monkeypatch.undo()
        install.index.cache_clear()
    newest = filled.skills.get("hz-fit")
    assert (newest.version, newest.status, newest.info.trusted) == (2, "active", True)
    assert len(filled.skills.list()) == 6


# ---- made again, run, shared


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made anew, without trying each parameter."""
    return _made(tmp_path_factory, QUICK, patience_s=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All made anew, just as those that are shipped were."""
    return _made(tmp_path_factory, list(RECIPES))


def _made(tmp_path_factory: pytest.TempPathFactory, names: list[str], **options: float) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMBAGENT_STARTER_SKILLS", "off")
        patch.setenv("CMBAGENT_WORKSPACES_FILE", str(folder / "workspaces.json"))
        make(names, folder, **options)
    return folder


@pytest.mark.parametrize("name", QUICK)
def test_a_run_of_a_quick_playbook_makes_it_anew(name: str, quick: Path) -> None:
    same(quick / name, install.FOLDER / name)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in RECIPES if name not in QUICK])
def test_a_run_of_each_playbook_makes_it_anew(name: str, whole: Path) -> None:
    same(whole / name, install.FOLDER / name)


def same(made: Path, shipped: Path) -> None:
    """The same parameters, code and results; numbers as near as other versions of packages bring them."""
    new, old = files(made), files(shipped)
    assert new.keys() == old.keys()
    rows = [json.loads(item["skill.json"]) for item in (new, old)]
    for name in ("parameters", "input_schema", "tags", "dag_template"):
        assert rows[0][name] == rows[1][name], f"{name}: make them anew: python -m tests.make_starter"
    cells = [[cell["source"] for cell in json.loads(item["notebook.ipynb"])["cells"]] for item in (new, old)]
    assert cells[0] == cells[1], "make them anew: python -m tests.make_starter"
    for path in old:
        if path.startswith("expected/") and not path.endswith(".png"):
            assert compare(path, shipped / path, made / path).equal, path


@pytest.mark.parametrize("name", QUICK)
def test_it_goes_to_others_and_runs_there(name: str, filled: Workspace, tmp_path: Path) -> None:
    there_and_back(name, filled, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", SLOW)
def test_each_goes_to_others_and_runs_there(name: str, filled: Workspace, tmp_path: Path) -> None:
    there_and_back(name, filled, tmp_path)


def there_and_back(name: str, here: Workspace, tmp_path: Path) -> None:
    """Export, import, trust, verify, run with the defaults and with other values."""
    place = here.skills.get(name).export(tmp_path / "out", "json" if name == "hz-fit" else "folder")
    other = Workspace(tmp_path / "other")
    try:
        skill = other.skills.import_(place)
        with pytest.raises(SkillUntrusted):
            skill.run()
        skill = verify_again(skill.trust())
        assert skill.verified, skill.info.verification
        values, number = VARIED[name]
        varied = skill.run(**values)
        assert varied.success, varied.error
        assert set(varied.outputs) == set(made_by(name))
        expected = EXPECTED_NUMBERS[name]
        published = json.loads(next((skill.info.folder / "expected" / "data").glob("*.json")).read_text())
        for key, value in expected.items():
            assert published[key] == pytest.approx(value, rel=2e-3), key
        if number is not None:
            assert varied.metrics[number] != pytest.approx(published[number], rel=1e-6)
    finally:
        other.close()


def made_by(name: str) -> list[str]:
    """The files that a starter skill says it makes."""
    return json.loads(files(install.FOLDER / name)["skill.json"])["postconditions"]["files"]


def test_they_take_data_of_ones_own(filled: Workspace, tmp_path: Path) -> None:
    """Another table of the same kind; any CSV; any series; what does not fit is told before."""
    chronometers = datasets.cosmic_chronometers()
    chronometers["hubble"] *= 0.9
    assert filled.skills.get("hz-fit").run(df=chronometers).metrics["H0"] == pytest.approx(0.9 * 71.03, rel=0.01)
    with pytest.raises(SkillError, match="has no column hubble"):
        filled.skills.get("hz-fit").run(df=chronometers.rename(columns={"hubble": "H"}))

    frame = pd.DataFrame({"a": range(30), "b": [value**2 for value in range(30)], "kind": ["x", "y", "y"] * 10})
    frame.to_csv(tmp_path / "own.csv", index=False)
    explored = filled.skills.get("table-exploration").run(TABLE=str(tmp_path / "own.csv"))
    assert explored.success, explored.error
    found = json.loads(explored.path("data/exploration.json").read_text())
    assert found["rows"] == 30 and found["strongest"][0] == {"columns": ["a", "b"], "correlation": pytest.approx(1.0)}

    times = np.sort(np.random.default_rng(5).uniform(0, 300, 400))
    series = pd.DataFrame({"t": times, "flux": 3 + np.sin(2 * np.pi * times / 12.5)})
    periods = filled.skills.get("periodogram").run(df=series, MIN_PERIOD=2.0, MAX_PERIOD=60.0)
    assert periods.success, periods.error
    assert periods.metrics["strongest_period"] == pytest.approx(12.5, rel=1e-3)


def test_a_package_that_is_not_there_is_told_before(filled: Workspace, tmp_path: Path) -> None:
    """As CAMB's would be where the extra cosmo is not installed."""
    place = filled.skills.get("planck-tt-spectrum").export(tmp_path)
    row = json.loads((place / "skill.json").read_text())
    row["preconditions"]["packages"]["camb-that-is-not-there"] = "2.0"
    from cmbagent_nb.skills.sharing.package import read_package

    put(resealed(read_package(place), **{"skill.json": json.dumps(row).encode()}), tmp_path / "changed")
    skill = filled.skills.import_(tmp_path / "changed", name="needs_more").trust()
    with pytest.raises(SkillError, match="camb-that-is-not-there") as told:
        skill.run()
    assert "pip install" in told.value.next_step
    assert not (filled.home / "skills" / "needs_more" / "runs").exists()
