"""What is built: one wheel with everything in it, with the panel where it was built, without Node."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
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


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution installed by pip, which compiles it, where nothing of the checkout is; its ``bin``.

    The other packages are those of this environment: only our own is taken from nowhere but the installation.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", str(source)]
    (packages,) = folder.glob("lib/python*/site-packages") or folder.glob("Lib/site-packages")
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    subprocess.run([str(binaries / "python"), *install], check=True, timeout=600, env=_clean())
    return binaries


def _clean() -> dict[str, str]:
    """Return an environment in which the checkout is not on Python's path."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def ask(installed: Path, folder: Path, *words: str, **variables: str) -> str:
    """Run a command of the installation in an empty folder with a workspace there, and return what it prints."""
    environment = _clean() | {"CMBAGENT_HOME": str(folder / "home"), "CMBAGENT_STARTER_SKILLS": "on", **variables}
    done = subprocess.run(
        [str(installed / words[0]), *words[1:]],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_installed_comes_from_the_installation_and_is_compiled(installed: Path, tmp_path: Path) -> None:
    place = Path(ask(installed, tmp_path, "python", "-c", "import cmbagent_nb; print(cmbagent_nb.__file__)").strip())
    assert place.is_relative_to(installed.parent)
    assert list(place.parent.rglob("*.pyc"))


def test_every_part_is_used_from_the_installation(installed: Path, tmp_path: Path) -> None:
    """Starter skills, playbooks, datasets, doctor, magics, export and import of a skill."""
    starters = sorted(
        path.name for path in (ROOT / "cmbagent_nb/skills/starter").iterdir() if (path / "SKILL.md").exists()
    )
    listed = json.loads(ask(installed, tmp_path, "cmbagent", "skills", "--json"))
    assert sorted(skill["name"] for skill in listed) == starters
    checks = {
        check["name"]: check["status"]
        for check in json.loads(ask(installed, tmp_path, "cmbagent", "doctor", "--json"))["checks"]
    }
    assert checks["starter skills"] == checks["playbooks"] == "ok"
    ask(installed, tmp_path, "cmbagent", "skill", "export", "hz-fit", str(tmp_path / "exported"))
    ask(installed, tmp_path, "cmbagent", "skill", "import", str(tmp_path / "exported" / "hz-fit"), "--name", "other")
    assert json.loads(ask(installed, tmp_path, "cmbagent", "skill", "run", "hz-fit", "--json"))["status"] == "completed"
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "from cmbagent_nb import datasets\n"
        "import cmbagent_nb.demo\n"
        "assert len(datasets.cosmic_chronometers()) > 20\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'cmbagent_nb')\n"
        "shell.run_line_magic('cmbagent', 'runs')\n"
    )
    assert "cmbagent_nb" in ask(installed, tmp_path, "python", "-c", code, IPYTHONDIR=str(tmp_path / "ipython"))


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
    import cmbagent_nb

    assert cmbagent_nb.__version__ == version
    assert json.loads((ROOT / "extension" / "package.json").read_text())["version"] == version
