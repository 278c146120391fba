"""Secrets planted wherever one can come in are in nothing that is written or shown."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
import string
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cmbagent_nb.cli import main
from cmbagent_nb.errors import CMBAgentError, UsageError
from cmbagent_nb.redaction import redactor
from cmbagent_nb.workflow.attempt import _secrets_in
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Reply, Status
from tests.rest_server import Server
from tests.team import APPROVED, Team, code, plan

RANDOM = random.Random(8)


def made_up(length: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(RANDOM.choices(letters, k=length - 2)) + "7q"


#: A secret for each place; all but the last kind can be known by value, by shape or by the name beside them.
ENVIRONMENT = {
    "OPENAI_API_KEY": made_up(40),
    "LAB_DB_PASSWORD": "h4nter!2",
    "SHORT_SECRET": "s3cr3t",
    "ARCHIVE_TOKEN": made_up(12),
    "ODD_PASSWORD": 'q"uo/te\\d <p&ß>7',
}
VENDOR = {
    "message": "sk-proj-" + made_up(32),
    "tool": "ghp_" + made_up(36),
    "file": "hf_" + made_up(34),
    "skill": "gsk_" + made_up(44),
    "code": "AKIA" + "".join(RANDOM.choices(string.ascii_uppercase + string.digits, k=16)),
}
URL_PASSWORD = "ur1-" + made_up(10)
HEADER = made_up(24)
QUERY = made_up(18)
PLANTED = [*ENVIRONMENT.values(), *VENDOR.values(), URL_PASSWORD, HEADER, QUERY]


def forms(secret: str) -> set[str]:
    """Return a secret as it is in text, and in JSON."""
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}


def found_in(data: bytes) -> list[str]:
    """Return the planted secrets that are in some bytes."""
    return [secret for secret in PLANTED if any(form.encode() in data for form in forms(secret))]


def leaks(folder: Path, own: set[str]) -> dict[str, list[str]]:
    """Return the files below a folder that hold a planted secret, but for those of the user's ``own``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(name.endswith(item) for item in own):
            secrets = found_in(path.read_bytes())
            if path.suffix == ".db":
                with closing(sqlite3.connect(path)) as db:
                    secrets += found_in("\n".join(db.iterdump()).encode())
            if secrets:
                found[name] = secrets
    return found


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


PRINTS = f"""
import json, sys
from pathlib import Path
values = json.loads(Path(SOURCE).read_text())
for value in values:
    print("found", value, repr(value))
    print(json.dumps(value), file=sys.stderr)
key = {VENDOR["code"]!r}
print("Authorization: Bearer {HEADER}", "https://example.org/x?api_key={QUERY}&n=1")
raise RuntimeError("cannot log in with " + " ".join(values))
"""


def test_a_run_that_meets_secrets_everywhere_writes_none(
    workspace: Workspace, planted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Task, replies, tool arguments and results, output, tracebacks, files, commands, gates, backup and REST."""
    source = tmp_path / "values.json"
    source.write_text(json.dumps([*ENVIRONMENT.values(), URL_PASSWORD, VENDOR["file"]]))
    prints = code(PRINTS.replace("SOURCE", repr(str(source))), "prints.py")
    team = Team(
        plan=plan({"title": "Look"}, {"title": "Print", "depends_on": [1]}),
        review=APPROVED,
        steps={
            "Look": [
                Reply(tool_calls=[("search_files", {"pattern": "**/*", "text": VENDOR["tool"]})]),
                code(f"open('data/own.txt', 'w').write({VENDOR['tool']!r})\n"),
            ],
            "Print": prints,
        },
    )
    monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url.replace("http://", f"http://ada:{URL_PASSWORD}@"))
        run = workspace.planning_and_control(
            f"Use {VENDOR['message']} at postgresql://ada:{URL_PASSWORD}@db/x", name="leaky"
        ).wait(120)
    assert run.status == "failed"
    workspace.admin.backup(tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as tar:
        tar.extractall(tmp_path / "backup", filter="data")
    frames = [run.events(), run.messages(), run.files(), run.history(), run.steps(), run.costs(), workspace.runs()]
    leaking = [
        (name, value)
        for frame in frames
        for name in frame
        for value in map(str, frame[name])
        if found_in(value.encode())
    ]
    assert not leaking
    assert "[redacted:" in run.messages().to_csv()
    error = str(run.error)
    with caplog.at_level(logging.DEBUG):
        for words in (
            ["status", "leaky"], ["history", "leaky"], ["events", "leaky", "--json"], ["messages", "leaky", "--json"],
            ["files", "leaky"], ["config"], ["doctor"], ["runs", "--json"],
        ):  # fmt: skip
            main(words)
    shown = capsys.readouterr()
    assert "leaky" in shown.out
    assert not found_in((shown.out + shown.err + caplog.text + error).encode())
    own = {"data/own.txt"}
    assert not leaks(workspace.home, own)
    assert not leaks(tmp_path / "backup", own)
    (tmp_path / "server").mkdir()
    rest = Server(tmp_path / "server", [workspace.home], **ENVIRONMENT)
    try:
        for path in ["runs", *(f"runs/leaky{part}" for part in ("", "/events", "/messages", "/files", "/history"))]:
            status, answer = rest.ask(path)
            assert status == 200
            assert not found_in(json.dumps(answer).encode()), path
        status, answer = rest.ask(f"runs/{VENDOR['message']}")
        assert status == 404
        assert not found_in(json.dumps(answer).encode())
    finally:
        rest.stop()
    assert not found_in((tmp_path / "server/server.log").read_bytes())


@pytest.mark.parametrize("answer", [Status(401, message="Incorrect API key provided: KEY"), Status(500, body="KEY")])
def test_a_provider_that_echoes_the_key_leaves_no_trace(
    workspace: Workspace, planted: None, monkeypatch: pytest.MonkeyPatch, answer: Status
) -> None:
    key = ENVIRONMENT["OPENAI_API_KEY"]
    for name in ("message", "body"):
        if getattr(answer, name):
            setattr(answer, name, getattr(answer, name).replace("KEY", key))
    monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
    with OpenAIServer(lambda request: answer) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Do it.").wait(120)
        assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    assert run.status == "failed"
    assert not found_in((run.history().to_csv() + str(run.error)).encode())
    assert not leaks(workspace.home, set())


@pytest.mark.parametrize(
    "fail",
    [
        lambda: Workspace(database_url=f"postgresql://ada:{URL_PASSWORD}@127.0.0.1:9/x").runs(),
        lambda: Workspace().skills.add_source("x", f"https://{VENDOR['tool']}@example.org/x"),
        lambda: Workspace().run(VENDOR["message"]),
        lambda: UsageError(f"cannot open https://ada:{URL_PASSWORD}@db", f"Unset {ENVIRONMENT['LAB_DB_PASSWORD']}."),
    ],
)
def test_an_error_shows_no_secret(planted: None, fail: Callable[[], Any]) -> None:
    try:
        error = fail()
    except CMBAgentError as raised:
        error = raised
    assert isinstance(error, CMBAgentError)
    assert not found_in(f"{error} {error!r} {error.args}".encode())


def test_a_skill_and_its_executed_notebook_hold_no_secret(workspace: Workspace, planted: None, tmp_path: Path) -> None:
    source = tmp_path / "values.json"
    source.write_text(json.dumps(list(ENVIRONMENT.values())))
    new: Any = nbformat.v4
    cells = [
        new.new_code_cell(f"n = 3\nsource = {str(source)!r}", metadata={"tags": ["parameters"]}),
        new.new_code_cell(
            f"import json\nkey = {VENDOR['skill']!r}\nvalues = json.load(open(source))\nprint(n * 2, values)\n"
            "json.dump({'n': n}, open('n.json', 'w'))\nvalues[0]"
        ),
    ]
    path = tmp_path / "leaky.ipynb"
    path.write_text(nbformat.writes(new.new_notebook(cells=cells)))
    assert main(["skill", "create", str(path)]) == 0
    workspace = Workspace(workspace.home)
    skill = workspace.skills.get("leaky")
    skill.run(n=4)
    skill.export(tmp_path / "exported")
    assert not leaks(workspace.home, {"values.json"})
    assert not leaks(tmp_path / "exported", {"values.json"})


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """Let no other test of this process see its texts masked by what was planted here."""
    from cmbagent_nb import redaction

    yield
    redaction._redactor = None


SHARED = 'password = "c0rrect-horse-battery"\nopen("data/length.txt", "w").write(str(len(password)))\n'
FROM_ENVIRONMENT = (
    'import os\npassword = os.environ.get("CATALOG_PASSWORD", "")\n'
    'open("data/length.txt", "w").write(str(len(password)))\n'
)


def test_code_that_holds_a_secret_is_not_run_masked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masked, it would compute something else: the engineer is told, and the masked reply is refused on resume, too."""
    asked: list[str] = []

    def engineer(request: dict[str, Any]) -> Any:
        asked.append(json.dumps(request))
        return code(SHARED if len(asked) == 1 else FROM_ENVIRONMENT)

    with OpenAIServer(engineer) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Measure the password.", model="openai:m").wait(60)
    assert run.status == "completed", run.error
    assert (run.work_dir / "data/length.txt").read_text() == "0"
    assert "The code was not run: line 1 holds what looks like a password" in asked[1]
    assert not found_in("".join(run.messages()["content"].astype(str)).encode())
    assert "c0rrect-horse" not in "".join(path.read_text() for path in run.work_dir.rglob("*.py"))
    assert _secrets_in('password = "[redacted:PASSWORD]"', str)
    assert _secrets_in('password = os.environ["PASSWORD"]', redactor().scrub) is None
