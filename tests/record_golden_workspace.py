"""Record a workspace of today's version: ``python -m tests.record_golden_workspace``; once for each released version.

It holds a run with a retry, one that failed, one that was cancelled at its gate, a skill of two versions that was run
and swept, a composition, and the skill as it is exported. Later versions open it and go on with it.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from cmbagent_nb._version import __version__
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.record_golden import RUNS, team
from tests.team import Team, code

ARCHIVE = Path(__file__).parent / "golden" / f"workspace-{__version__}.tar.gz"

SQUARES = """\
# how many squares are summed
N_SQUARES = 6
# the power of each
power = 2.0
import json

values = [n**power for n in range(N_SQUARES)]
with open("data/squares.json", "w") as file:
    json.dump({"values": values, "total": sum(values)}, file)
with open("data/squares.csv", "w") as file:
    file.write("n,value\\n" + "".join(f"{n},{value}\\n" for n, value in enumerate(values)))
print("the total is", sum(values))
"""
MEAN = """\
# the table to read
table = "input/squares.csv"
import csv
import json

with open(table) as file:
    values = [float(row["value"]) for row in csv.DictReader(file)]
with open("data/mean.json", "w") as file:
    json.dump({"mean": sum(values) / len(values)}, file)
print("the mean is", sum(values) / len(values))
"""


def fill(workspace: Workspace, shared: Path) -> None:
    """Do in a workspace what the golden one holds; the export goes to ``shared``."""
    for record in RUNS:
        with OpenAIServer(team()) as server:
            os.environ["CMBAGENT_BASE_URL"] = server.url
            record(workspace)
    steps = {"Sum": [code(SQUARES, "squares.py")]}
    with OpenAIServer(Team(steps=steps)) as server:
        os.environ["CMBAGENT_BASE_URL"] = server.url
        run = workspace.one_shot("Sum 6 squares.", model="openai:m", name="squares").wait(120)
        assert run.status == "completed", run.error
    skill = run.extract_skill("sum_squares", timeout_s=120)
    assert skill.status == "active", skill
    for power in (3.0, 1.0):
        done = skill.run(power=power)
        assert done.status == "completed", done
    skill.sweep({"N_SQUARES": [3, 4]})
    skill.export(shared)
    steps = {"Take": [code(MEAN, "mean.py")]}
    with OpenAIServer(Team(steps=steps)) as server:
        os.environ["CMBAGENT_BASE_URL"] = server.url
        inputs = {"squares": run.work_dir / "data/squares.csv"}
        run = workspace.one_shot("Take the mean.", model="openai:m", name="mean", inputs=inputs).wait(120)
        assert run.status == "completed", run.error
    mean = run.extract_skill("mean_of_table", timeout_s=120)
    assert mean.status == "active", mean
    both = workspace.skills.compose("squares_and_mean", [skill, mean])
    assert both.status == "active", both
    done = both.run(power=4.0)
    assert done.status == "completed", done


def hide_machine(folder: Path) -> None:
    """Replace this machine's names and paths in all texts of a folder, and in its database."""
    names = {
        str(folder): "/home/somebody",
        str(Path(__file__).parent.parent): "/home/somebody/source",
        sys.prefix: "/home/somebody/venv",
        sys.base_prefix: "/usr",
        socket.gethostname(): "somewhere",
    }
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.suffix in (".db", ".pyc"):
            continue
        data = path.read_bytes()
        for name, other in names.items():
            data = data.replace(name.encode(), other.encode())
        if data != path.read_bytes():
            path.write_bytes(data)
    with closing(sqlite3.connect(folder / "workspace/cmbagent.db")) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
                for name, other in names.items():
                    sql = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)'
                    connection.execute(sql, (name, other, name))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")


def main() -> None:
    """Record the workspace and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "workspace")
        os.environ |= {
            "CMBAGENT_WORKSPACES_FILE": f"{folder}/workspaces.json",
            "CMBAGENT_STARTER_SKILLS": "off",
        }
        workspace = Workspace(home)
        fill(workspace, Path(folder, "shared"))
        workspace.close()
        (home / "migrate.lock").unlink(missing_ok=True)
        hide_machine(Path(folder))
        with tarfile.open(ARCHIVE, "w:gz") as archive:
            archive.add(home, "workspace")
            archive.add(Path(folder, "shared"), "shared")


if __name__ == "__main__":
    main()
