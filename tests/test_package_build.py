"""What is built: one wheel with everything in it, with the panel where it was built, without Node."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PANEL = "cmbagent_nb-{0}.data/data/share/jupyter/labextensions/cmbagent-nb/"
CONFIG = "cmbagent_nb-{0}.data/data/etc/jupyter/jupyter_server_config.d/cmbagent_nb.json"


def build(root: Path, target: str, into: Path) -> Path:
    """Build in a process that finds neither Node nor anything else on its path."""
    environment = {**os.environ, "PATH": str(into)}
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, made from the source distribution as pip does."""
    return zipfile.ZipFile(build(source, "wheel", tmp_path_factory.mktemp("wheel")))


def test_the_wheel_has_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(["git", "ls-files", "cmbagent_nb"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout: nothing to compare the wheel with")
    missing = set(listed.stdout.split("\n")) - {""} - set(wheel.namelist())
    assert not missing


def test_the_wheel_has_the_notebooks_and_nothing_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "cmbagent_nb/notebooks/01_quickstart.ipynb" in names
    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"cmbagent_nb"}
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name or name.endswith(".ts")]


def test_the_server_extension_is_enabled_by_the_install(wheel: zipfile.ZipFile, version: str) -> None:
    assert b'"cmbagent_nb.server": true' in wheel.read(CONFIG.format(version))


def test_the_panel_is_in_the_wheel_when_it_was_built(wheel: zipfile.ZipFile, version: str) -> None:
    panel = ROOT / "cmbagent_nb" / "labextension"
    if not (panel / "package.json").is_file():
        if os.environ.get("CI"):
            pytest.fail("the panel was not built: run `make panel`")
        pytest.skip("the panel is not built: run `make panel`")
    expected = {path.relative_to(panel).as_posix() for path in panel.rglob("*") if path.is_file()} | {"install.json"}
    prefix = PANEL.format(version)
    assert {name.removeprefix(prefix) for name in wheel.namelist() if name.startswith(prefix)} == expected


def test_a_checkout_without_the_panel_builds_a_wheel_without_it(source: Path, tmp_path: Path, version: str) -> None:
    panel, aside = source / "cmbagent_nb" / "labextension", tmp_path / "aside"
    if panel.exists():
        panel.rename(aside)
    try:
        (tmp_path / "out").mkdir()
        names = zipfile.ZipFile(build(source, "wheel", tmp_path / "out")).namelist()
    finally:
        if aside.exists():
            aside.rename(panel)
    assert "cmbagent_nb/__init__.py" in names
    assert CONFIG.format(version) in names
    assert not [name for name in names if "labextensions" in name]


def test_the_metadata_names_commands_and_extras(wheel: zipfile.ZipFile, version: str) -> None:
    folder = f"cmbagent_nb-{version}.dist-info"
    about = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert about["License-Expression"] == "Apache-2.0"
    extras = set(about.get_all("Provides-Extra", []))
    assert extras >= {"cosmo", "embeddings", "postgres", "openai", "anthropic", "gemini", "ollama", "test", "all"}
    plain = [need for need in about.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert not [need for need in plain if need.startswith(("torch", "sentence"))]
    commands = wheel.read(f"{folder}/entry_points.txt").decode()
    assert "cmbagent = cmbagent_nb.cli:main" in commands
    assert "cmbagent-nb = cmbagent_nb.cli:main" in commands


def test_the_version_stands_in_one_way_everywhere(version: str) -> None:
    import json

    import cmbagent_nb

    assert cmbagent_nb.__version__ == version
    assert json.loads((ROOT / "extension" / "package.json").read_text())["version"] == version
