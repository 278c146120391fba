"""No test writes the user's files: neither fixtures that outlive a test, nor processes that tests start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from cmbagent_nb.settings import default_home
from cmbagent_nb.store.workspaces import list_file, listed
from cmbagent_nb.workspace import Workspace

LOOK = """
from cmbagent_nb.settings import default_home
from cmbagent_nb.store.workspaces import list_file
import jupyter_core.paths as jupyter, platformdirs
print(default_home(), list_file(), jupyter.jupyter_data_dir(), jupyter.jupyter_runtime_dir(), sep="\\n")
print(platformdirs.user_data_dir("cmbagent_nb", appauthor=False))
"""


def users_folders() -> list[Path]:
    """Return the folders of the person who runs the tests, whatever the environment says."""
    home = Path(os.environ.get("HOME", "/")).absolute()
    return [home / ".local", home / ".config", home / ".jupyter", home / ".ipython", home / "Library"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Path]]:
    """A workspace that is opened before the environment of any test is set."""
    workspace = Workspace(tmp_path_factory.mktemp("module") / "home")
    _ = workspace.runs()
    yield workspace, list_file()
    workspace.close()


def test_a_fixture_of_a_module_lists_its_workspace_away_from_the_users(opened: tuple[Workspace, Path]) -> None:
    workspace, listing = opened
    assert listing.exists()
    assert str(workspace.home) in listing.read_text()
    assert not [folder for folder in users_folders() if listing.is_relative_to(folder)]
    assert workspace.home not in listed()  # this test has a list of its own


def test_a_process_that_a_test_starts_is_confined(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    found = [Path(line) for line in done.stdout.split("\n") if line]
    assert found[:2] == [default_home(), list_file()] == [tmp_path / "home", tmp_path / "workspaces.json"]
    assert found[4] == Path(platformdirs.user_data_dir("cmbagent_nb", appauthor=False))
    assert not [path for path in found for folder in users_folders() if path.is_relative_to(folder)]
