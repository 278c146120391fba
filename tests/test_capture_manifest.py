"""Manifests: what changed in a folder, by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cmbagent_nb.capture.file_scan import changes, scan


def test_created_updated_and_deleted_files_are_told_by_content(tmp_path: Path) -> None:
    """A file that was written again with the same content did not change."""
    (tmp_path / "data").mkdir()
    for name in ("data/same.csv", "data/changed.csv", "gone.txt"):
        (tmp_path / name).write_text(name)
    before = scan(tmp_path)
    (tmp_path / "data/same.csv").write_text("data/same.csv")
    (tmp_path / "data/changed.csv").write_text("other")
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "new é.txt").write_text("n")
    told = changes(before, scan(tmp_path))
    assert [entry.path for entry in told.created] == ["new é.txt"]
    assert [entry.path for entry in told.updated] == ["data/changed.csv"]
    assert [entry.path for entry in told.deleted] == ["gone.txt"]
    assert [entry.path for entry in told.made] == ["data/changed.csv", "new é.txt"]
    assert told.updated[0].sha256 == hashlib.sha256(b"other").hexdigest()
    assert told.updated[0].size == 5
    assert not changes(before, before)


def test_a_manifest_stays_within_its_folder(tmp_path: Path) -> None:
    """Links that lead out are left out; those that stay inside are files."""
    outside = tmp_path / "outside.txt"
    outside.write_text("o")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside.txt").write_text("i")
    (folder / "to_inside").symlink_to("inside.txt")
    (folder / "to_outside").symlink_to(outside)
    (folder / "to_nothing").symlink_to("nothing")
    (folder / "to_folder").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(scan(folder)) == ["inside.txt", "to_inside"]
    assert scan(tmp_path / "missing") == {}
