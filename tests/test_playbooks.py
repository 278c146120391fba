"""The shipped playbooks: their code, run as plain scripts, gives the published numbers; their words hold none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cmbagent_nb import datasets
from cmbagent_nb.agents.references import resolve
from cmbagent_nb.agents.replies import plan_model
from cmbagent_nb.llm.playbook import FOLDER, Playbook, find_for_task, normalised, playbooks
from cmbagent_nb.workflow.plan import Plan, checked
from cmbagent_nb.workspace import Workspace

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
AGENTS = ["engineer", "researcher"]
WORKFLOW = ("planck_tt", "desi_bao", "joint")


def run_script(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as the launcher would: its own process, its folder as the working directory."""
    for name in ("data", "plots", "codebase"):
        (folder / name).mkdir(exist_ok=True)
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def folder_with(frame: pd.DataFrame, folder: Path) -> Path:
    (folder / "input").mkdir(parents=True)
    frame.to_parquet(folder / "input" / "df.parquet")
    return folder


def numbers(folder: Path, name: str) -> dict:
    return json.loads((folder / "data" / name).read_text())


def replies(name: str) -> list[dict]:
    return yaml.safe_load((FOLDER / name / "playbook.yaml").read_text(encoding="utf-8"))["replies"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which the scripts of planck-desi have run, one after the other."""
    folder = folder_with(datasets.planck2018_tt(), tmp_path_factory.mktemp("planck_desi"))
    for name in WORKFLOW:
        done = run_script(FOLDER / "planck-desi" / f"{name}.py", folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_planck_chi2_is_the_published_one(finished: Path) -> None:
    found = numbers(finished, "planck_tt.json")
    assert found["chi2"] == pytest.approx(207.6, abs=0.15)
    assert found["bins"] == 215
    assert found["derived"]["r_d"] == pytest.approx(147.06, abs=0.1)
    residuals = pd.read_csv(finished / "data" / "planck_tt_residuals.csv")
    assert len(residuals) == 215 and residuals["pull"].abs().max() < 4


def test_desi_fit_is_the_published_one(finished: Path) -> None:
    found = numbers(finished, "desi_bao.json")
    assert found["omega_m"] == pytest.approx(0.2975, abs=0.0005)
    assert found["omega_m_error"] == pytest.approx(0.0086, abs=0.0002)
    assert found["h_r_d"] == pytest.approx(101.54, abs=0.02)
    assert found["h_r_d_error"] == pytest.approx(0.73, abs=0.02)
    assert found["chi2"] == pytest.approx(10.3, abs=0.05)
    assert found["dof"] == 11


def test_joint_minimum_lies_between_the_two(finished: Path) -> None:
    found, planck, desi = (numbers(finished, f"{name}.json") for name in ("joint", "planck_tt", "desi_bao"))
    assert desi["omega_m"] < found["joint_omega_m"] < planck["derived"]["omega_m"]
    assert planck["derived"]["h_r_d"] < found["joint_h_r_d"] < desi["h_r_d"]
    assert found["desi_chi2_at_planck"] > desi["chi2"] + found["delta_chi2"] > desi["chi2"]
    assert 1.5 < found["sigmas"] < 2.5  # published: about two


def test_the_contour_grid_has_its_minimum_at_the_fit(finished: Path) -> None:
    grid = pd.read_csv(finished / "data" / "desi_bao_dchi2.csv", index_col="omega_m")
    fit = numbers(finished, "desi_bao.json")
    omega_m, h_rd = grid.stack().idxmin()
    assert abs(omega_m - fit["omega_m"]) < 0.002 and abs(float(h_rd) - fit["h_r_d"]) < 0.2
    assert 0 <= grid.to_numpy().min() < 0.1


def test_first_attempt_fails_in_a_library_by_a_name_in_the_data(tmp_path: Path) -> None:
    script = FOLDER / "planck-desi" / "desi_bao_first.py"
    done = run_script(script, tmp_path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("KeyError: 'DM_over_rd'")
    assert "pandas" in re.findall(r'File "([^"]+)"', done.stderr)[-1]
    assert "raise" not in script.read_text()
    assert not list((tmp_path / "data").iterdir())


def test_a_changed_value_changes_the_chi2(tmp_path: Path, finished: Path) -> None:
    frame = datasets.planck2018_tt()
    frame.loc[20, "cl"] *= 1.2
    folder = folder_with(frame, tmp_path / "run")
    done = run_script(FOLDER / "planck-desi" / "planck_tt.py", folder)
    assert done.returncode == 0, done.stderr
    assert numbers(folder, "planck_tt.json")["chi2"] > numbers(finished, "planck_tt.json")["chi2"] + 5


def test_the_constants_can_be_varied(tmp_path: Path) -> None:
    """LMAX and H0, which become a skill's parameters, are used wherever they should be."""
    code = (FOLDER / "planck-desi" / "planck_tt.py").read_text()
    script = tmp_path / "varied.py"
    script.write_text(code.replace("LMAX = 2508", "LMAX = 1500").replace("H0 = 67.32", "H0 = 70.0"))
    folder = folder_with(datasets.planck2018_tt(), tmp_path / "run")
    done = run_script(script, folder)
    assert done.returncode == 0, done.stderr
    found = numbers(folder, "planck_tt.json")
    expected = int((datasets.planck2018_tt()["ell_max"] <= 1500).sum())
    assert found["bins"] == expected < 215
    assert found["parameters"]["H0"] == 70.0
    assert found["chi2"] > 2 * expected  # the peaks have moved off the data


def test_keeling_curve(tmp_path: Path) -> None:
    folder = folder_with(datasets.mauna_loa_co2(), tmp_path / "run")
    done = run_script(FOLDER / "mauna-loa" / "keeling_curve.py", folder)
    assert done.returncode == 0, done.stderr
    found = numbers(folder, "keeling_curve.json")
    assert found["weeks"] == 2225
    assert 0.7 < found["growth_first"] < 1.0 and 1.6 < found["growth_last"] < 2.0
    assert 5.5 < found["cycle_peak_to_peak"] < 7
    assert found["cycle_maximum"].endswith("May") and found["cycle_minimum"].endswith(("September", "October"))
    assert (folder / "plots" / "keeling_curve.png").stat().st_size < 200_000


#: Of each one_shot playbook that a starter skill is made of: its script, its numbers, and what they should be.
EXPECTED = {
    "supernova-hubble": ("hubble_diagram", "supernova_hubble", {"omega_m": (0.350, 0.02), "scatter": (0.134, 0.01)}),
    "hz-chronometers": ("hz_fit", "hz_fit", {"H0": (71.0, 0.5), "omega_m": (0.283, 0.01), "chi2": (11.7, 0.3)}),
    "table-exploration": ("explore", "exploration", {"rows": (344, 0), "missing_values": (19, 0)}),
    "periodogram": ("periodogram", "periodogram", {"strongest_period": (1.0, 0.001)}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_code_of_the_short_playbooks_gives_what_is_known(name: str, tmp_path: Path) -> None:
    script, result, expected = EXPECTED[name]
    loader = Playbook.load(name).inputs["df"].rpartition(":")[2]
    folder = folder_with(getattr(datasets, loader)(), tmp_path / "run")
    done = run_script(FOLDER / name / f"{script}.py", folder)
    assert done.returncode == 0, done.stderr
    found = numbers(folder, f"{result}.json")
    for key, (value, within) in expected.items():
        assert found[key] == pytest.approx(value, abs=within), key
    pictures = list((folder / "plots").glob("*.png"))
    assert pictures and sum(path.stat().st_size for path in pictures) < 120_000


def test_no_result_stands_in_a_playbook(finished: Path, tmp_path: Path) -> None:
    """No number that the code computes is written in the replies, the report or the code."""
    results = {}
    for name in ("planck_tt", "desi_bao", "joint"):
        found = numbers(finished, f"{name}.json")
        results |= {f"{name}.{key}": value for key, value in found.items() if isinstance(value, float)}
        results |= {f"{name}.{key}": value for key, value in found.get("derived", {}).items()}
    texts = {path: path.read_text(encoding="utf-8") for path in (FOLDER / "planck-desi").iterdir()}
    for key, value in results.items():
        for path, text in texts.items():
            for digits in (1, 2, 3):
                written = f"{abs(value):.{digits}f}"
                if len(written.replace(".", "").strip("0")) >= 3:
                    there = re.search(rf"(?<![\d.]){re.escape(written)}(?!\d)", text)
                    assert not there, f"{key} = {written} stands in {path.name}"


def test_every_number_of_the_report_is_found(finished: Path) -> None:
    text = (FOLDER / "planck-desi" / "report.md").read_text(encoding="utf-8")
    resolved = resolve(text, finished)
    assert resolved.missing == []
    assert len(resolved.used) >= 15
    assert "[207.6](data/planck_tt.json)" in resolved.markdown
    assert "[0.297](data/desi_bao.json)" in resolved.markdown and "[101.54](data/desi_bao.json)" in resolved.markdown
    assert "{{" not in resolved.markdown
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (finished / picture).is_file()


def test_both_plans_are_valid_and_the_second_runs_two_steps_at_once(finished: Path) -> None:
    plans = [item["reply"] for item in replies("planck-desi") if item["agent"] == "planner"]
    first, second = (Plan.from_reply(plan_model(AGENTS).model_validate(item).model_dump()) for item in plans)
    for plan in (first, second):
        checked(plan, agents=AGENTS, max_steps=10)
        assert len(plan.steps) == 4
    assert first.roots() == ["step_1"]
    assert second.roots() == ["step_1", "step_2"]
    assert second.steps[2].depends_on == ("step_1", "step_2")
    assert second.steps[3].agent == "researcher"
    made = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()} | {"report.md"}
    assert {name for step in second.steps for name in step.expected_outputs} <= made


def test_playbooks_are_found_by_their_task_alone() -> None:
    found = {item.name: item for item in playbooks()}
    assert set(found) == {"mauna-loa", "planck-desi", *EXPECTED}
    for name, item in found.items():
        assert find_for_task(item.task) == name
        assert find_for_task("  " + item.task.upper().replace("\n", "  ")) == name
        assert find_for_task(item.task + " Please.") is None
        assert "no model is called" in item.note
        assert Playbook.load(name).inputs.keys() == {"df"}


@pytest.mark.parametrize(("name", "file"), [("planck-desi", "01_quickstart"), ("mauna-loa", "02_beyond_cosmology")])
def test_the_notebook_asks_the_recorded_task(name: str, file: str) -> None:
    """The task in the notebook is the playbook's, word for word, so that the recorded replies belong to it."""
    cells = json.loads((NOTEBOOKS / f"{file}.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    tasks = [source.split("\n", 1) for source in sources if source.startswith("%%cmbagent")]
    assert [normalised(task) for _, task in tasks] == [normalised(Playbook.load(name).task)]
    assert f"--model playbook:{name}" in tasks[0][0]


def test_a_run_uses_the_table_that_it_is_given(workspace: Workspace) -> None:
    """The whole of planck-desi through the engine, on a table with one changed value."""
    frame = datasets.planck2018_tt()
    frame.loc[20, "cl"] *= 1.2
    run = workspace.planning_and_control(
        Playbook.load("planck-desi").task, model="playbook:planck-desi", inputs={"df": frame}
    )
    run.wait(120)
    assert run.status == "completed", run.error
    steps = run.steps().set_index("node_id")
    assert list(steps["attempts"]) == [1, 2, 1, 1]
    assert steps.loc["step_1", "started_at"] < steps.loc["step_2", "ended_at"], "the two fits overlap"
    assert steps.loc["step_2", "started_at"] < steps.loc["step_1", "ended_at"], "the two fits overlap"

    chi2 = numbers(run.work_dir, "planck_tt.json")["chi2"]
    assert chi2 > 210
    assert f"[{chi2:.1f}](data/planck_tt.json)" in run.result.text
    assert "[101.54](data/desi_bao.json)" in run.result.text

    events = run.events()
    failed = events[(events["event_type"] == "code_exec") & (events["status"] == "failed")]
    assert list(failed["node_id"]) == ["step_2"] and "KeyError: 'DM_over_rd'" in failed["error"].iloc[0]
    tools = events[events["event_type"] == "tool_call"]
    assert set(tools["node_id"]) == {"step_1", "step_2"}
    looked_up = tools[tools["node_id"] == "step_2"]["outputs"].iloc[0]
    assert "DM_over_rs" in str(looked_up), "the documentation that is searched names the quantity"
    assert run.cost_usd == 0 and run.model_source == "playbook"


def test_one_shot_on_the_co2_record(workspace: Workspace) -> None:
    run = workspace.one_shot(Playbook.load("mauna-loa").task, model="auto", inputs={"df": datasets.mauna_loa_co2()})
    run.wait(60)
    assert run.status == "completed", run.error
    assert run.model_source == "playbook", "auto finds the playbook of this very task"
    assert len(run.costs()) == 1
    assert 'alt="plots/keeling_curve.png"' in run.result._repr_html_()
