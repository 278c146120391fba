"""The folder of an attempt: what is put into it, and what is published from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmbagent_nb.capture.file_scan import changes, scan
from cmbagent_nb.errors import InputError, WorkDirError
from cmbagent_nb.execution import attempt_folder
from cmbagent_nb.execution.attempt_folder import prepare, publish, sweep


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    for name in ("input", "data", "plots"):
        (tmp_path / name).mkdir()
    (tmp_path / "input" / "df.parquet").write_bytes(b"PAR1")
    (tmp_path / "data" / "a.json").write_text("1")
    (tmp_path / "data" / "b.json").write_text("2")
    return tmp_path


def made(folder: Path, files: dict[str, str]) -> list[attempt_folder.Entry]:
    before = scan(folder)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(changes(before, scan(folder)).made)


def test_folder_is_seeded_with_inputs_and_what_is_named(work_dir: Path) -> None:
    folder = prepare(work_dir, "step_2", 1, ["data/a.json"])
    assert folder == work_dir / "steps" / "step_2" / "attempt_1"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"input/df.parquet", "data/a.json"}
    assert {path.name for path in folder.iterdir()} == {"input", "data", "plots", "codebase"}


def test_attempts_do_not_share_files(work_dir: Path) -> None:
    first, second = prepare(work_dir, "step_2", 1, ["data"]), prepare(work_dir, "step_2", 2, ["data"])
    (first / "data" / "a.json").write_text("changed")
    assert (second / "data" / "a.json").read_text() == (work_dir / "data" / "a.json").read_text() == "1"


def test_a_discarded_attempt_is_made_anew(work_dir: Path) -> None:
    folder = prepare(work_dir, "step_2", 1)
    (folder / "data" / "left.txt").write_text("left")
    assert not (prepare(work_dir, "step_2", 1) / "data" / "left.txt").exists()


@pytest.mark.parametrize("seed", ["data/missing.json", "../outside.txt", "/etc/hostname"])
def test_a_seed_that_cannot_be_leaves_nothing(work_dir: Path, seed: str) -> None:
    (work_dir.parent / "outside.txt").write_text("x")
    with pytest.raises(InputError, match=seed.rpartition("/")[2]):
        prepare(work_dir, "step_2", 1, ["data/a.json", seed])
    assert not (work_dir / "steps" / "step_2" / "attempt_1").exists()


def test_large_seeds_are_linked_and_a_change_is_seen(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file costs no copy; that the code wrote to it is not missed."""
    monkeypatch.setattr(attempt_folder, "LINK_ABOVE", 0)
    monkeypatch.setattr(attempt_folder, "_clone", lambda source, target: False)
    folder = prepare(work_dir, "step_2", 1, ["data/a.json"])
    assert (folder / "data" / "a.json").stat().st_ino == (work_dir / "data" / "a.json").stat().st_ino
    assert [entry.path for entry in made(folder, {"data/a.json": "other"})] == ["data/a.json"]


def test_new_files_are_published_whole_with_their_kind(work_dir: Path) -> None:
    folder = prepare(work_dir, "step_2", 1, ["data/a.json"])
    entries = made(
        folder,
        {"data/a.json": "11", "data/c.csv": "x\n1\n", "plots/p.png": "png", "codebase/m.py": "x=1", "r.md": "# R"},
    )
    published = {item.path: item for item in publish(folder, work_dir, entries)}
    assert {path: item.file_type for path, item in published.items()} == {
        "codebase/m.py": "code",
        "data/a.json": "data",
        "data/c.csv": "data",
        "plots/p.png": "plot",
        "r.md": "report",
    }
    assert (work_dir / "data" / "a.json").read_text() == "11"
    assert published["data/a.json"].replaced and not published["data/c.csv"].replaced
    assert published["data/a.json"].source == "steps/step_2/attempt_1/data/a.json"
    assert published["plots/p.png"].mime == "image/png" and published["data/c.csv"].size == 4
    assert published["data/c.csv"].sha256 == scan(work_dir)["data/c.csv"].sha256
    assert not list(work_dir.rglob("*.part"))


def test_the_runs_own_files_are_safe(work_dir: Path) -> None:
    """Code cannot overwrite the journal, the plan, the inputs or another attempt; what it wrote there is kept."""
    (work_dir / "journal.jsonl").write_text("journal")
    (work_dir / "planning").mkdir()
    (work_dir / "planning" / "final_plan.json").write_text("plan")
    folder = prepare(work_dir, "step_2", 1)
    names = ["journal.jsonl", "planning/final_plan.json", "steps/step_1/x", "input/df.parquet", "Cost/c.json"]
    published = publish(folder, work_dir, made(folder, dict.fromkeys(names, "evil")))
    assert sorted(item.path for item in published) == sorted(f"data/{name}" for name in names)
    assert (work_dir / "journal.jsonl").read_text() == "journal"
    assert (work_dir / "planning" / "final_plan.json").read_text() == "plan"
    assert (work_dir / "input" / "df.parquet").read_bytes() == b"PAR1"


def test_caches_and_hidden_files_are_not_published(work_dir: Path) -> None:
    folder = prepare(work_dir, "step_2", 1)
    names = ["codebase/__pycache__/m.cpython-311.pyc", ".hidden", "data/.x/y"]
    assert publish(folder, work_dir, made(folder, dict.fromkeys(names, "x"))) == []


def test_links_out_of_the_folder_are_not_published(work_dir: Path, tmp_path: Path) -> None:
    folder = prepare(work_dir, "step_2", 1)
    secret = tmp_path.parent / f"{tmp_path.name}-secret.txt"
    secret.write_text("secret")
    entry = made(folder, {"data/ok.txt": "ok"})[0]
    (folder / "data" / "ok.txt").unlink()
    (folder / "data" / "ok.txt").symlink_to(secret)
    assert publish(folder, work_dir, [entry]) == []


def test_a_folder_in_the_way_is_told(work_dir: Path) -> None:
    folder = prepare(work_dir, "step_2", 1)
    (work_dir / "data" / "out").mkdir()
    with pytest.raises(WorkDirError, match="data/out"):
        publish(folder, work_dir, made(folder, {"data/out": "x"}))


def test_what_a_killed_publishing_left_is_swept_away(work_dir: Path) -> None:
    left, kept = work_dir / "data" / ".a.csv.123.456.part", work_dir / "data" / ".mine.part"
    steps = work_dir / "steps" / "step_1" / ".a.csv.123.456.part"
    for path in (left, kept, steps):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    sweep(work_dir)
    assert [path.exists() for path in (left, kept, steps)] == [False, True, True]
