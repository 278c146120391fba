"""Files that tools leave in a skill's folder change nothing; what fails quietly is said by ``doctor``."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from cmbagent_nb import doctor
from cmbagent_nb.skills.sharing.package import read_package
from cmbagent_nb.skills.starter import install
from cmbagent_nb.workspace import Workspace

LEFT = (
    "scripts/__pycache__/run.cpython-311.pyc",
    "assets/__pycache__/helper.cpython-313.opt-1.pyc",
    "assets/.ipynb_checkpoints/notebook-checkpoint.ipynb",
    ".ipynb_checkpoints/notebook-checkpoint.ipynb",
    ".DS_Store",
    "expected/.DS_Store",
    "assets/Thumbs.db",
    "assets/._df.parquet",
    "SKILL.md~",
    ".notebook.ipynb.swp",
    "__MACOSX/._notebook.ipynb",
    ".git/config",
)


def litter(folder: Path) -> None:
    for name in LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x00left by a tool")


def test_a_package_reads_the_same_with_what_tools_leave_in_it(tmp_path: Path) -> None:
    folder = shutil.copytree(install.FOLDER / "hz-fit", tmp_path / "hz-fit", ignore=shutil.ignore_patterns(*"_."))
    clean = read_package(folder)
    litter(folder)
    assert read_package(folder).files == clean.files
    with zipfile.ZipFile(tmp_path / "hz-fit.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path))
    assert read_package(tmp_path / "hz-fit.zip").files == clean.files


def test_a_skill_stays_trusted_and_exports_the_same_with_what_tools_leave_in_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = shutil.copytree(install.FOLDER / "hz-fit", tmp_path / "in" / "hz-fit")
    skill = workspace.skills.import_(folder).trust()
    before = read_package(skill.export(tmp_path / "before")).files.keys()
    litter(skill.info.folder)
    assert skill.info.trusted
    assert read_package(skill.export(tmp_path / "after")).files.keys() == before


def test_doctor_names_a_starter_skill_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    """One that is damaged does not keep the others away."""
    shipped = shutil.copytree(install.FOLDER, tmp_path / "starter")
    monkeypatch.setattr(install, "FOLDER", shipped)
    install.index.cache_clear()
    try:
        assert {check.name: check.status for check in doctor.examine(tmp_path).checks}["starter skills"] == "ok"
        (shipped / "hz-fit" / "notebook.ipynb").write_text("{}")
        (found,) = [check for check in doctor.examine(tmp_path).checks if check.name == "starter skills"]
        assert found.status == "problem"
        assert found.detail.startswith("hz-fit: ")
        assert "pip install" in found.next_step
        install.install_quietly(workspace._core.db, workspace._core.writer, workspace.home)
        assert len(workspace.skills.list()) == len(install.shipped()) - 1
    finally:
        install.index.cache_clear()
