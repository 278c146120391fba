"""Skills that travel: the same files arrive, nothing strange is taken, and nothing runs before it is trusted."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import CMBAgentError, SkillError, SkillRefused, SkillUntrusted, StateError, UsageError
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.notebook import parameters_source
from cmbagent_nb.skills.sharing import git, manifest
from cmbagent_nb.skills.sharing import package as packages
from cmbagent_nb.skills.sharing.package import MANIFEST, NOTEBOOK, ROW, Package, check_path, from_json, to_json
from cmbagent_nb.skills.sharing.skill_md import slug
from cmbagent_nb.workspace import Workspace
from tests.held import verify_again
from tests.shared_skill import CODE, notebook, package, put, resealed, row


@pytest.fixture
def other(tmp_path: Path):
    """A second workspace, of somebody else."""
    opened = Workspace(tmp_path / "other")
    yield opened
    opened.close()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- there and back


@pytest.mark.parametrize("form", ["folder", "json", "zip"])
def test_what_is_exported_arrives_unchanged(form: str, workspace: Workspace, other: Workspace, tmp_path: Path) -> None:
    mine = workspace.skills.import_(put(package(), tmp_path / "in"))
    place = mine.export(tmp_path / "out", form)
    theirs = other.skills.import_(place)
    assert (theirs.name, theirs.version, theirs.info.trusted, theirs.status) == ("power_sum", 1, False, "draft")
    assert content(theirs.info.folder / "assets") == content(mine.info.folder / "assets")
    assert theirs.notebook.read_bytes() == mine.notebook.read_bytes()
    for field in ("parameters", "description", "tags", "task", "input_schema", "notebook_hash"):
        assert getattr(theirs.info, field) == getattr(mine.info, field), field
    assert theirs.info.verification["summary"].startswith("1 of 1 file reproduced when it was made")
    # and once more: what was said is not said twice
    again = workspace.skills.import_(theirs.export(tmp_path / "again", form), name="another")
    assert again.info.verification["summary"] == theirs.info.verification["summary"]
    assert workspace.skills.import_(place).id == mine.id, "the same files are the same skill"
    if form == "json":
        assert workspace.skills.import_(json.loads(place.read_text())).id == mine.id
        with pytest.raises(SkillRefused, match="not an exported skill"):
            workspace.skills.import_({"format": "other"})


def test_what_is_exported_into_a_folder_is_imported_from_it(workspace: Workspace, tmp_path: Path) -> None:
    """The export makes a folder in it, under the skill's name."""
    mine = workspace.skills.import_(put(package(), tmp_path / "in"))
    mine.export(tmp_path / "out")
    assert workspace.skills.import_(tmp_path / "out").id == mine.id
    put(package("another"), tmp_path / "out" / "another")
    with pytest.raises(SkillRefused, match="no manifest"):
        workspace.skills.import_(tmp_path / "out")


def test_an_imported_skill_runs_once_it_is_trusted(workspace: Workspace, tmp_path: Path) -> None:
    skill = workspace.skills.import_(put(package(), tmp_path / "in"))
    for attempt in (skill.run, lambda: skill._library.execute(skill, {"power": 3}), lambda: verify_again(skill)):
        with pytest.raises(SkillUntrusted, match="not trusted"):
            attempt()
    assert not (workspace.home / "skills" / "power_sum" / "runs").exists()
    kinds = {row["artifact_type"] for row in workspace._core.db.rows("SELECT artifact_type FROM skill_artifacts")}
    assert kinds == {"code", "config", "data_schema", "asset"}
    shown = skill.code()
    assert "float(line) ** power" in shown and "input/numbers.txt" in shown
    assert "<script" not in type(shown)("<script>")._repr_html_()

    trusted = skill.trust()
    assert (trusted.info.trusted, trusted.status) == (True, "active")
    assert (
        trusted.info.meta["trust"]["how"] == "user"
        and trusted.info.meta["trust"]["by"]
        and trusted.info.meta["trust"]["at"]
    )
    done = trusted.run(power=3)
    assert done.success and done.metrics == {"total": 36.0}
    verified = verify_again(trusted)
    assert verified.verified and verified.info.verification["compared_with"] == "expected"
    assert verified.info.verification["summary"] == "1 of 1 file reproduced"


def test_a_cell_that_is_not_python_can_be_shared(workspace: Workspace, tmp_path: Path) -> None:
    made = package(code="%matplotlib inline\n" + CODE)
    skill = workspace.skills.import_(put(made, tmp_path / "in"))
    assert "%matplotlib inline" in skill.code()
    assert skill.trust().run().success


def test_a_claim_that_is_not_true_does_not_stand(workspace: Workspace, tmp_path: Path) -> None:
    """It says that it was verified; here it makes something else, and becomes a draft."""
    wrong = resealed(package(), **{"expected/data/total.json": b'{"total": 15.0}'})
    skill = workspace.skills.import_(put(wrong, tmp_path / "in")).trust()
    assert skill.status == "active"
    checked = verify_again(skill)
    assert (checked.verified, checked.status) == (False, "draft")
    assert "15.0 became 14.0" in checked.info.verification["reason"]


@pytest.mark.parametrize("what", ["notebook.ipynb", "assets/input/numbers.txt", "assets/helper.py"])
def test_trust_ends_when_a_file_changes(what: str, workspace: Workspace, tmp_path: Path) -> None:
    skill = workspace.skills.import_(put(package(), tmp_path / "in")).trust()
    place = skill.info.folder / what
    place.write_text((place.read_text() if place.exists() else "") + "\n4\n")
    with pytest.raises(SkillError, match=r"not those that were imported|was changed"):
        skill.run()
    with pytest.raises(SkillError, match=r"not those that were imported|was changed"):
        skill.trust()


def test_what_was_changed_is_no_part_of_a_composition(workspace: Workspace, tmp_path: Path) -> None:
    """A composition is one's own: changed files of a part must not come to be trusted by it."""
    first = workspace.skills.import_(put(package("first"), tmp_path / "first")).trust()
    second = workspace.skills.import_(put(package("second", CODE + "\n# another"), tmp_path / "second")).trust()
    (first.info.assets / "input/numbers.txt").write_text("9\n")
    with pytest.raises(SkillError, match="first v1 is not trusted: its files were changed"):
        workspace.skills.compose("both", [first, second], "parallel")


def test_code_cannot_hide_from_its_reader(workspace: Workspace, tmp_path: Path) -> None:
    """What a terminal would obey, and what turns the direction of a text, is shown."""
    hidden = "import os  # \x1b[2K\r# nothing to see \u202e"
    shown = str(workspace.skills.import_(put(package(code=hidden), tmp_path / "in")).code())
    assert "import os  # \\u001b[2K\\u000d# nothing to see \\u202e" in shown
    assert not {"\x1b", "\r", "\u202e"} & set(shown)


@pytest.mark.parametrize("value", [10**5000, "\ud800", [10**5000], [object()]], ids=["int", "text", "list", "object"])
def test_a_value_that_cannot_be_written_is_told(value: Any) -> None:
    """It would fail where the notebook is written, after the start."""
    kind = {int: "int", str: "str", list: "list"}[type(value)]
    with pytest.raises(SkillError, match="Parameter n of skill"):
        Parameter("n", kind, {"int": 1, "str": "a", "list": []}[kind]).check(value)


def test_a_unit_is_no_code() -> None:
    """What is said of a parameter stands in a comment, which ends with the line."""
    assert (
        parameters_source([Parameter("n", "int", 1, "how\nmany", unit="m]\nevil()#")])
        == "n: int = 1  # how many [m] evil()#]"
    )


def test_an_import_does_not_take_a_name_away(workspace: Workspace, tmp_path: Path) -> None:
    own = workspace.skills.import_(put(package(), tmp_path / "in")).trust()
    put(package(code=CODE + "\nprint('mine now')"), tmp_path / "changed")
    with pytest.raises(SkillError, match="version-of power_sum"):
        workspace.skills.import_(tmp_path / "changed")
    assert workspace.skills.import_(tmp_path / "changed", name="theirs").name == "theirs"
    stranger = workspace.skills.import_(tmp_path / "changed", version_of="power_sum")
    assert (stranger.name, stranger.version, stranger.status) == ("power_sum", 2, "draft")
    assert workspace.skills.get("power_sum").id == own.id, "a name means its newest active version"
    with pytest.raises(SkillError, match="cannot be the name"):
        workspace.skills.import_(tmp_path / "changed", name="../theirs")


def test_an_export_takes_no_place_that_is_taken(workspace: Workspace, tmp_path: Path) -> None:
    skill = workspace.skills.import_(put(package(), tmp_path / "in"))
    place = skill.export(tmp_path / "out")
    assert place == tmp_path / "out" / "power-sum"
    with pytest.raises(SkillError, match="is there already"):
        skill.export(tmp_path / "out")
    (place / "left over").write_text("x")
    assert skill.export(place, overwrite=True) == place and not (place / "left over").exists()
    own = tmp_path / "out2" / "power-sum"
    own.mkdir(parents=True)
    (own / "thesis.tex").write_text("years of work")
    with pytest.raises(SkillError, match="is there already"):
        skill.export(tmp_path / "out2", overwrite=True)
    assert (own / "thesis.tex").exists()
    with pytest.raises(SkillError, match="not exported as 'tar'"):
        skill.export(tmp_path, "tar")
    assert {path.name for path in tmp_path.iterdir()} >= {"out", "out2"}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_column_that_a_parameter_names_is_looked_for_by_its_value(workspace: Workspace, tmp_path: Path) -> None:
    """Not by the parameter's default: another table may call it otherwise."""
    about = row()
    about["parameters"] = [
        {"name": "column", "type": "str", "default": "flux", "kind": "value"},
        {"name": "table", "type": "str", "default": "input/table.csv", "kind": "input"},
    ]
    about["input_schema"] = {"input/table.csv": {"kind": "table", "columns": {"flux": "float64"}, "rows": 1}}
    made = package(about=about)
    cells = notebook("import pandas as pd\nprint(pd.read_csv(table)[column].sum())")
    cells["cells"][0]["source"] = "column: str = 'flux'\ntable: str = 'input/table.csv'"
    files = {NOTEBOOK: json.dumps(cells).encode(), "assets/input/table.csv": b"flux\n1\n"}
    skill = workspace.skills.import_(put(resealed(made, **files), tmp_path / "in")).trust()
    own = tmp_path / "own.csv"
    own.write_text("light\n3\n")
    with pytest.raises(SkillError, match="has no column flux"):
        skill.run(table=str(own))
    with pytest.raises(SkillError, match="has no column 'lihgt'"):
        skill.run(table=str(own), column="lihgt")
    with pytest.raises(SkillError, match="has no column 'lux'"):
        skill.run(column="lux")
    assert skill.run(table=str(own), column="light").success


# ---- what is refused


def changed_row(**changes: Any) -> bytes:
    return json.dumps({**row(), **changes}).encode()


def changed_notebook(**changes: Any) -> bytes:
    return json.dumps({**notebook(), **changes}).encode()


def parameter(**changes: Any) -> bytes:
    about = row()
    about["parameters"][0] |= changes
    return json.dumps(about).encode()


def newer_manifest() -> Package:
    made = package()
    value = json.loads(made.files[MANIFEST])
    made.files[MANIFEST] = json.dumps({**value, "format": 2}).encode()
    return made


def with_file(path: str, listed: bool = True) -> Package:
    made = package()
    made.files[path] = b"x"
    return manifest.seal(made) if listed else made


def without(path: str) -> Package:
    made = package()
    del made.files[path]
    return made


def touched(path: str) -> Package:
    made = package()
    made.files[path] += b" "
    return made


REFUSED: dict[str, tuple[Callable[[], Package], str]] = {
    "path upwards": (lambda: with_file("../evil.py"), "outside of its folder"),
    "path upwards, deep": (lambda: with_file("assets/../../evil.py"), "outside of its folder"),
    "absolute path": (lambda: with_file("/etc/evil"), "outside of its folder"),
    "path of another system": (lambda: with_file("assets\\..\\evil.py"), "cannot be the name"),
    "drive": (lambda: with_file("C:/evil.py"), "cannot be the name"),
    "device": (lambda: with_file("assets/NUL.txt"), "cannot be the name"),
    "line in a name": (lambda: with_file("assets/a\nb"), "cannot be the name"),
    "no name": (lambda: with_file("assets//x"), "cannot be the name"),
    "two names in one": (lambda: with_file("assets/input/NUMBERS.txt"), "is there twice"),
    "file and folder": (lambda: with_file("assets/input"), "a file and a folder"),
    "changed notebook": (lambda: touched(NOTEBOOK), "notebook.ipynb was changed"),
    "changed asset": (lambda: touched("assets/input/numbers.txt"), "numbers.txt was changed"),
    "changed result": (lambda: touched("expected/data/total.json"), "total.json was changed"),
    "missing file": (lambda: without("assets/input/numbers.txt"), "in its manifest but not there"),
    "file besides": (lambda: with_file("assets/more.py", listed=False), "not in its manifest"),
    "no manifest": (lambda: without(MANIFEST), "has no manifest.json"),
    "broken manifest": (lambda: Package({**package().files, MANIFEST: b"[]"}), "manifest.json cannot be read"),
    "newer manifest": (newer_manifest, "format 2, which is newer"),
    "newer skill": (lambda: resealed(package(), **{ROW: changed_row(format=2)}), "format 2, which is newer"),
    "newer notebook": (lambda: resealed(package(), **{NOTEBOOK: changed_notebook(nbformat=5)}), "5.5, which is newer"),
    "newer minor": (lambda: resealed(package(), **{NOTEBOOK: changed_notebook(nbformat_minor=9)}), "4.9, which is new"),
    "newer record": (
        lambda: resealed(package(), **{NOTEBOOK: changed_notebook(metadata={"cmbagent_nb": {"format": 2}})}),
        "format 2, which is newer",
    ),
    "old notebook": (lambda: resealed(package(), **{NOTEBOOK: changed_notebook(nbformat=3)}), "old format 3.5"),
    "no notebook": (lambda: manifest.seal(without(NOTEBOOK)), "has no notebook.ipynb"),
    "not a notebook": (lambda: resealed(package(), **{NOTEBOOK: b"{}"}), "cannot be read as one"),
    "invalid notebook": (
        lambda: resealed(package(), **{NOTEBOOK: changed_notebook(cells=[{"cell_type": "code"}])}),
        "is not valid",
    ),
    "no code": (lambda: resealed(package(), **{NOTEBOOK: changed_notebook(cells=[])}), "no code"),
    "broken row": (lambda: resealed(package(), **{ROW: b"{"}), "skill.json cannot be read"),
    "deep row": (lambda: resealed(package(), **{ROW: b"[" * 100_000}), "skill.json cannot be read"),
    "name with a path": (lambda: resealed(package(), **{ROW: changed_row(name="../x")}), "cannot be the name"),
    "tags that are none": (
        lambda: resealed(package(), **{ROW: changed_row(tags=[1])}),
        r"tags\.0 in its skill.json is not valid",
    ),
    "odd visibility": (
        lambda: resealed(package(), **{ROW: changed_row(visibility="all")}),
        "visibility in its skill.json is not valid",
    ),
    "parameter with code": (
        lambda: resealed(package(), **{ROW: parameter(name="x=1;y")}),
        "cannot be the name of a param",
    ),
    "two parameters of one name": (
        lambda: resealed(package(), **{ROW: parameter(name="numbers_file")}),
        "two parameters have the name",
    ),
    "default beyond all numbers": (
        lambda: resealed(package(), **{ROW: parameter(type="float", default=10**400)}),
        "of another type",
    ),
    "compiled code": (lambda: with_file("assets/codebase/tools.cpython-311.pyc"), "compiled code"),
    "packages that are none": (
        lambda: resealed(package(), **{ROW: changed_row(preconditions={"packages": ["numpy"]})}),
        r"preconditions\.packages in",
    ),
    "package without a name": (
        lambda: resealed(package(), **{ROW: changed_row(preconditions={"packages": {"": "1"}})}),
        r"preconditions\.packages.*is empty",
    ),
    "odd condition": (
        lambda: resealed(package(), **{ROW: changed_row(preconditions={"parameters": [{"parameter": "power"}]})}),
        r"preconditions\.parameters\.0\.op in",
    ),
    "files that are none": (
        lambda: resealed(package(), **{ROW: changed_row(postconditions={"files": 5})}),
        r"postconditions\.files in",
    ),
    "result that leads out": (
        lambda: resealed(package(), **{ROW: changed_row(postconditions={"files": ["../../x.json"]})}),
        r"postconditions\.files\.0.*leads out",
    ),
    "schema that leads out": (
        lambda: resealed(package(), **{ROW: changed_row(output_schema={"/etc/x.json": {"kind": "json"}})}),
        "output_schema.*leads out",
    ),
    "table without columns": (
        lambda: resealed(package(), **{ROW: changed_row(input_schema={"input/numbers.txt": {"kind": "table"}})}),
        "input_schema.*needs columns",
    ),
    "odd graph": (
        lambda: resealed(package(), **{ROW: changed_row(dag_template={"nodes": 5})}),
        r"dag_template\.nodes in",
    ),
    "parameter of no type": (lambda: resealed(package(), **{ROW: parameter(type="object")}), r"parameters\.0\.type in"),
    "default of another type": (lambda: resealed(package(), **{ROW: parameter(default="two")}), "of another type"),
    "parameter that leads out": (
        lambda: resealed(package(), **{ROW: parameter(kind="output", type="str", default="../../x")}),
        "outside of its folder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_told_before_anything_is_written(case: str, workspace: Workspace, tmp_path: Path) -> None:
    """As one JSON file, since a folder cannot hold some of these paths."""
    make, said = REFUSED[case]
    place = tmp_path / "skill.json"
    place.write_text(to_json(make()), encoding="utf-8")
    before = sorted(workspace.home.rglob("*")) if workspace.home.exists() else []
    with pytest.raises(SkillError, match=said) as told:
        workspace.skills.import_(place)
    assert told.value.next_step
    assert (sorted(workspace.home.rglob("*")) if workspace.home.exists() else []) == before
    assert not (tmp_path / "evil.py").exists() and len(workspace.skills.list()) == 0


@pytest.mark.parametrize("what", ["file", "folder", "the whole"])
def test_links_are_refused(what: str, workspace: Workspace, tmp_path: Path) -> None:
    folder = put(package(), tmp_path / "in")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "numbers.txt").write_text("1\n2\n3\n")  # even when its content is the right one
    if what == "file":
        (folder / "assets/input/numbers.txt").unlink()
        (folder / "assets/input/numbers.txt").symlink_to(secret / "numbers.txt")
    elif what == "folder":
        (folder / "assets/input/numbers.txt").unlink()
        (folder / "assets/input").rmdir()
        (folder / "assets/input").symlink_to(secret)
    else:
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    with pytest.raises(SkillRefused, match="is a link"):
        workspace.skills.import_(folder)


def test_a_device_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    folder = put(package(), tmp_path / "in")
    os.mkfifo(folder / "assets" / "pipe")
    with pytest.raises(SkillRefused, match="not a plain file"):
        workspace.skills.import_(folder)


def archive(place: Path, members: dict[str, bytes], **attributes: Any) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes.get("mode", 0o100644) << 16
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return place


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/tmp/evil", "a\\..\\..\\evil", "C:\\evil"])
def test_zip_slips_are_refused(name: str, workspace: Workspace, tmp_path: Path) -> None:
    place = archive(tmp_path / "x.zip", {**package().files, name: b"x"})
    with pytest.raises(SkillRefused, match=r"outside of its folder|cannot be the name"):
        workspace.skills.import_(place)
    assert not list(tmp_path.rglob("evil"))


def test_links_bombs_and_damage_in_archives_are_refused(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SkillRefused, match="is a link"):
        workspace.skills.import_(archive(tmp_path / "link.zip", {"manifest.json": b"/etc/passwd"}, mode=0o120777))
    good = archive(tmp_path / "good.zip", {f"power-sum/{path}": data for path, data in package().files.items()})
    damaged = tmp_path / "damaged.zip"
    data = bytearray(good.read_bytes())
    data[60:70] = bytes(10)
    damaged.write_bytes(bytes(data))
    with pytest.raises(SkillRefused):
        workspace.skills.import_(damaged)
    # one file that unpacks to more than is allowed, whatever the archive says of its size
    bomb = archive(tmp_path / "bomb.zip", {**package().files, "assets/zeros": bytes(3 * 2**20)})
    monkeypatch.setattr(packages, "LARGEST_FILE", 2**20)
    with pytest.raises(SkillRefused, match="larger than 1 MB"):
        workspace.skills.import_(bomb)
    lying = bytearray(bomb.read_bytes())
    size = (3 * 2**20).to_bytes(4, "little")
    while size in lying:
        place = lying.index(size)
        lying[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "lying.zip").write_bytes(bytes(lying))
    with pytest.raises(SkillRefused):
        workspace.skills.import_(tmp_path / "lying.zip")
    assert workspace.skills.import_(good).name == "power_sum"


def test_too_much_is_refused(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(package(), tmp_path / "in")
    monkeypatch.setattr(packages, "MOST_FILES", 4)
    with pytest.raises(SkillRefused, match="more than 4 files"):
        workspace.skills.import_(folder)
    monkeypatch.setattr(packages, "MOST_FILES", 500)
    monkeypatch.setattr(packages, "LARGEST", 1000)
    with pytest.raises(SkillRefused, match="larger than"):
        workspace.skills.import_(folder)
    with pytest.raises(SkillRefused, match="there is no"):
        workspace.skills.import_(tmp_path / "nowhere")
    (tmp_path / "text.json").write_text("{}")
    with pytest.raises(SkillRefused, match="not an exported skill"):
        workspace.skills.import_(tmp_path / "text.json")
    (tmp_path / "picture.png").write_bytes(bytes(range(256)))
    with pytest.raises(SkillRefused, match="neither a JSON file nor a zip archive"):
        workspace.skills.import_(tmp_path / "picture.png")


@given(st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "a", "", "b.txt", "~", "\\"])).map("/".join))
def test_a_path_that_is_taken_stays_in_its_folder(path: str) -> None:
    try:
        check_path(path)
    except SkillRefused:
        return
    folder = Path("/safe/folder")
    assert Path(os.path.normpath(folder / path)).is_relative_to(folder) and os.path.normpath(folder / path) != str(
        folder
    )


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}\.[a-z]{2})?", fullmatch=True), st.binary(max_size=200)))
def test_any_bytes_survive_one_json_file(files: dict[str, bytes]) -> None:
    try:
        assert from_json(to_json(Package(files))).files == files
    except SkillRefused as refusal:  # a name is a file here and a folder there
        assert "a file and a folder" in str(refusal)


# ---- a team's library


def test_a_folder_is_a_library(workspace: Workspace, tmp_path: Path) -> None:
    team = tmp_path / "team"
    put(package(), team / "sums" / "power-sum")
    put(package("other_sum"), team / "other-sum")
    (team / "third.json").write_text(to_json(package("third_sum")))
    (team / "notes.json").write_text("{}")
    workspace.skills.add_source("team", team)
    found = workspace.skills.sync()
    assert dict(zip(found["skill"], found["change"], strict=True)) == {
        "power_sum": "new",
        "other_sum": "new",
        "third_sum": "new",
    }
    assert not found["trusted"].any() and set(workspace.skills.list()["status"]) == {"draft"}
    assert set(workspace.skills.sync("team")["change"]) == {"same"} and len(workspace.skills.list()) == 3

    put(package(code=CODE + "\n# better"), team / "sums" / "power-sum")
    (team / "third.json").unlink()
    (team / "other-sum" / "assets" / "input" / "numbers.txt").write_text("9")
    changes = workspace.skills.sync().set_index("skill")
    assert changes.loc["power_sum", "change"] == "new version" and changes.loc["power_sum", "version"] == 2
    assert changes.loc["third_sum", "change"] == "gone"
    assert "was changed after it was exported" in changes.loc["other-sum", "detail"]
    assert workspace.skills.get("third_sum").info.meta["origin"]["gone_at"]
    meta = workspace.skills.get("other_sum").info.meta
    assert not meta["origin"].get("gone_at"), "it is there, though it cannot be taken"
    assert len(workspace.skills.list()) == 4

    (team / "third.json").write_text(to_json(package("third_sum")))
    assert "gone" not in set(workspace.skills.sync()["change"])
    assert workspace.skills.get("third_sum").info.meta["origin"]["gone_at"] is None


def test_a_trusted_source_is_trusted_and_can_be_published_to(
    workspace: Workspace, other: Workspace, tmp_path: Path
) -> None:
    team = tmp_path / "team"
    team.mkdir()
    for place in (workspace, other):
        place.skills.add_source("team", team, trusted=True)
    mine = workspace.skills.import_(put(package(), tmp_path / "in")).trust()
    with pytest.raises(UsageError, match="private skill"):
        mine._library.publish(mine, "private", to="team")
    public = mine._library.publish(mine, to="team")
    assert workspace.skills.list()["visibility"].tolist() == ["public"] and (team / "power-sum" / MANIFEST).is_file()
    assert other.skills.sync()["change"].tolist() == ["new"]
    theirs = other.skills.get("power_sum")
    assert (theirs.info.trusted, theirs.status, theirs.info.meta["trust"]["how"]) == (True, "active", "source team")
    assert workspace.skills.sync()["change"].tolist() == ["same"] and len(workspace.skills.list()) == 1
    assert public._library.publish(public, "private").id == mine.id
    assert workspace.skills.list()["visibility"].tolist() == ["private"]


def run_git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, Path]:
    """A working copy and the bare repository that it pushes to."""
    copy, bare = tmp_path / "copy", tmp_path / "bare.git"
    put(package(), copy / "power-sum")
    run_git(tmp_path, "init", "--quiet", "--bare", str(bare))
    run_git(copy, "init", "--quiet")
    run_git(copy, "add", ".")
    run_git(copy, "commit", "--quiet", "-m", "one")
    run_git(copy, "push", "--quiet", str(bare), "HEAD:main")
    return copy, bare


def test_a_repository_is_a_library(workspace: Workspace, repository: tuple[Path, Path]) -> None:
    copy, bare = repository
    workspace.skills.add_source("team", bare)
    assert workspace.skills.sources()["kind"].tolist() == ["git"]
    assert workspace.skills.sync()["change"].tolist() == ["new"]
    assert "#" in workspace.skills.get("power_sum").info.meta["origin"]["from"]

    put(package(code=CODE + "\n# better"), copy / "power-sum")
    (copy / "power-sum" / "assets" / "link").symlink_to("/etc/passwd")
    put(package("second_sum"), copy / "second-sum")
    run_git(copy, "add", ".")
    run_git(copy, "commit", "--quiet", "-m", "two")
    run_git(copy, "push", "--quiet", str(bare), "HEAD:main")
    changes = workspace.skills.sync().set_index("skill")
    assert changes.loc["second_sum", "change"] == "new"
    assert changes.loc["power-sum", "change"] == "refused", "a link in a repository is not followed"
    (copy / "power-sum" / "assets" / "link").unlink()
    run_git(copy, "add", ".")
    run_git(copy, "commit", "--quiet", "-m", "three")
    run_git(copy, "push", "--quiet", str(bare), "HEAD:main")
    assert "new version" in set(workspace.skills.sync()["change"])
    workspace.skills.remove_source("team")
    assert len(workspace.skills.list()) == 3 and workspace.skills.sync().empty
    assert not list((workspace.home / "skills" / ".sources").iterdir())


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ext::sh -c 'touch pwned'", "helper program"),
        ("fd::17/foo", "helper program"),
        ("me@example.org::x", "helper program"),
        ("--upload-pack=touch pwned", "is no location"),
        ("-oProxyCommand=touch pwned", "is no location"),
        ("https://example.org/x\n--upload-pack=y", "is no location"),
        ("", "is no location"),
        ("http://example.org/x.git", "uses http, which is not allowed"),
        ("git://example.org/x.git", "uses git, which is not allowed"),
        ("https://me:secret@example.org/x.git", "holds a password"),
        ("nowhere", "neither a folder nor a URL"),
    ],
)
def test_dangerous_locations_are_refused(location: str, said: str, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        workspace.skills.add_source("team", location, "git")
    with pytest.raises(UsageError, match=said):
        git.fetch(location, tmp_path / "folder")
    assert workspace.skills.sources().empty


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on this system")
def test_a_pipe_in_a_source_is_passed_over(workspace: Workspace, tmp_path: Path) -> None:
    """Nobody writes to it: reading it would never end."""
    put(package(), tmp_path / "team" / "power-sum")
    os.mkfifo(tmp_path / "team" / "pipe.json")
    workspace.skills.add_source("team", tmp_path / "team")
    assert workspace.skills.sync()["change"].tolist() == ["new"]


def test_sources_that_cannot_be_used_are_told(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    workspace.skills.add_source("team", tmp_path / "team")
    for wrong in (
        lambda: workspace.skills.add_source("team", tmp_path / "team"),
        lambda: workspace.skills.add_source("new", tmp_path / "team", "ftp"),
        lambda: workspace.skills.add_source("new", tmp_path / "nowhere", "folder"),
        lambda: workspace.skills.sync("nobody"),
        lambda: workspace.skills.remove_source("nobody"),
    ):
        with pytest.raises(CMBAgentError) as told:
            wrong()
        assert told.value.next_step
    (tmp_path / "team").rmdir()
    told = workspace.skills.sync()
    assert told["change"].tolist() == ["refused"] and "is not there" in told["detail"][0]
    with pytest.raises(SkillError, match="is not there"):
        workspace.skills.sync("team")


# ---- other programs


def test_the_folder_is_an_agent_skill(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AG2 loads it with its strict rules, reads it and runs its script."""
    from ag2 import Agent
    from ag2.events import ToolCallEvent, ToolResultEvent
    from ag2.testing import TestConfig
    from ag2.tools.skills import SkillPlugin
    from ag2.tools.skills.runtime.local.loader import SkillLoader

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    odd = {"description": "Sum: the powers # of 'numbers' in a file\n---\nname: other", "tags": ["a: b"]}
    skill = workspace.skills.import_(put(package(about=odd), tmp_path / "in"))
    place = skill.export(tmp_path / "skills", licence="MIT")
    found = SkillLoader(tmp_path / "skills", strict=True).discover()
    assert [item.name for item in found] == ["power-sum"]
    assert found[0].metadata.license == "MIT" and "Sum: the powers # of 'numbers'" in found[0].metadata.description
    front = yaml.safe_load((place / "SKILL.md").read_text().split("---\n")[1])
    assert all(isinstance(value, str) for value in front["metadata"].values())
    assert front["metadata"]["cmbagent-name"] == "power_sum"

    def call(tool: str, **arguments: Any) -> ToolCallEvent:
        return ToolCallEvent(tool, arguments=json.dumps({"name": "power-sum", **arguments}))

    model = TestConfig(
        call("load_skill"),
        call("read_skill_resource", resource="notebook.ipynb"),
        call("run_skill_script", script="run.py", args=["power=3", "--out", str(tmp_path / "out")]),
        "done",
    )
    agent = Agent("reader", config=model, plugins=[SkillPlugin(tmp_path / "skills")])

    async def ask() -> str:
        reply = await agent.ask("Sum the cubes.")
        results = [item for item in await reply.history.get_events() if isinstance(item, ToolResultEvent)]
        return "\n".join(part.content for item in results for part in item.result.parts)

    said = asyncio.run(ask())
    assert "How to run it" in said and "float(line) ** power" in said
    assert json.loads((tmp_path / "out" / "data" / "total.json").read_text()) == {"total": 36.0}
    assert "total.json" in said


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True))
def test_every_name_has_one_in_the_open_format(name: str) -> None:
    import re

    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(name)) and len(slug(name)) <= 64


# ---- going away


def test_deleting_takes_rows_and_folder_and_leaves_results(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.skills.import_(put(package(), tmp_path / "in")).trust()
    second = workspace.skills.import_(put(package(code=CODE + "\n# two"), tmp_path / "two"), version_of="power_sum")
    done = first.run()
    said = workspace.skills.delete(first)
    assert "results of 1 execution stay" in said and done.path("data/total.json").is_file()
    assert not first.info.folder.exists() and second.info.folder.is_dir()
    assert workspace.skills.list()["id"].tolist() == [second.id]
    assert workspace._core.db.rows("SELECT id FROM skill_executions") == []
    third = workspace.skills.import_(put(package("third"), tmp_path / "three")).trust()
    third.run()
    assert "and the results of 1 execution" in third._library.delete(third, results=True)
    workspace.skills.delete(second)
    assert not (workspace.home / "skills" / "third").exists()


def test_a_skill_that_runs_is_not_deleted(workspace: Workspace, tmp_path: Path) -> None:
    import threading

    code = "import time\nfrom pathlib import Path\nPath('on').touch()\nwhile True: time.sleep(0.02)"
    skill = workspace.skills.import_(put(package(code=code), tmp_path / "in")).trust()
    stop, started = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=lambda: skill._library.execute(skill, {}, stop=stop, on_progress=lambda *_: started.set()), daemon=True
    )
    thread.start()
    assert started.wait(60)
    with pytest.raises(StateError, match="is running"):
        skill._library.delete(skill)
    stop.set()
    thread.join(60)
    assert skill._library.delete(skill).startswith("Deleted")


@pytest.mark.parametrize("format", ["json", "zip"])
def test_a_file_of_the_users_is_never_taken_for_an_earlier_export(
    workspace: Workspace, tmp_path: Path, format: str
) -> None:
    skill = workspace.skills.import_(put(package(), tmp_path / "in"))
    target = tmp_path / f"mine.{format}"
    for content in (b"", b'{"mine": 1}', b"PK\x05\x06" + bytes(18), b"text"):
        target.write_bytes(content)
        with pytest.raises(SkillError, match="is there already"):
            skill.export(target, format, overwrite=True)
        assert target.read_bytes() == content
    target.unlink()
    assert skill.export(target, format) == target
    assert skill.export(target, format, overwrite=True) == target
