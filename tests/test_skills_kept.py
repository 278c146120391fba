"""What a skill must make again is kept with it; dates in names and contents are told, and hold on another day."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cmbagent_nb.skills.sharing.export import pack
from tests.held import create, extract, find, verify_again
from tests.skill_runs import Home, Step, make_run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("kept") / "home")
    yield opened
    opened.close()


def test_a_skill_outlives_its_run(home: Home) -> None:
    """It is verified and exported when the run's rows and folder are gone."""
    code = "import json\njson.dump({'x': 2.5 * 3}, open('data/x.json', 'w'))"
    run = make_run(home, "Multiply", [Step(code)])
    skill = extract(home.db, home.writer, home.path, run, name="outlives", liveness_s=0)
    assert skill.status == "active", skill.info.verification
    shutil.rmtree(home.path / "runs" / run)
    for table in ("files", "execution_events", "step_attempts", "workflow_steps", "workflow_runs"):
        key = "id" if table == "workflow_runs" else "run_id"
        home.writer.call(
            lambda connection, sql=f"DELETE FROM {table} WHERE {key} = '{run}'": connection.exec_driver_sql(sql)
        ).result()
    skill = find(home.db, home.writer, home.path, skill.id)
    again = verify_again(skill)
    assert (again.status, again.info.verification["summary"]) == ("active", "1 of 1 file reproduced")
    assert json.loads(pack(again.info).files["expected/data/x.json"]) == {"x": 7.5}


def test_dates_in_names_and_contents(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made where it is yesterday and verified where it is tomorrow; what is passed over is said."""
    new: Any = nbformat.v4
    code = (
        "import json, os, time, uuid\nfrom datetime import date, datetime\n"
        "json.dump({'y': x * 1.5, 'made': str(datetime.now())}, open(f'out_{date.today()}.json', 'w'))\n"
        "open(f'log_{int(time.time())}_{os.getpid()}.txt', 'w').write(f'{x * 2.5} on {date.today():%d %B %Y}')\n"
        "open(f'{uuid.uuid4()}.csv', 'w').write(f'x\\n{x}\\n')"
    )
    cells = [new.new_code_cell("x = 2.5", metadata={"tags": ["parameters"]}), new.new_code_cell(code)]
    path = tmp_path / "dated.ipynb"
    path.write_text(nbformat.writes(new.new_notebook(cells=cells)))
    monkeypatch.setenv("TZ", "Etc/GMT+12")  # the date is never that of the other zone, which is 26 hours ahead
    skill = create(home.db, home.writer, home.path, path)
    assert skill.status == "active", skill.info.verification
    assert "x" in skill.info.verification["liveness"]["alive"]
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    again = verify_again(skill)
    assert (again.status, again.info.verification["summary"]) == ("active", "3 of 3 files reproduced"), (
        again.info.verification
    )
    assert sum("its name differs each time" in note for note in again.info.verification["notes"]) == 3
    other = verify_again(skill.edit(_changed(skill.notebook, tmp_path), liveness_s=0))
    assert other.status == "active"
    for item in (skill.info.folder / "expected").glob("out_*.json"):
        item.write_text(item.read_text().replace("3.75", "3.85"))
    broken = verify_again(skill)
    assert (broken.status, "3.85 became 3.75" in broken.info.verification["reason"]) == ("draft", True)


def _changed(notebook: Path, folder: Path) -> Path:
    place = folder / "changed.ipynb"
    place.write_text(notebook.read_text().replace("x * 1.5", "x * 3.5"))
    return place
