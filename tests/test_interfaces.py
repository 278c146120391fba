"""What users hold on to changes on purpose only: see :mod:`tests.interfaces`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import interfaces
from tests.rest_server import Server


def promised(name: str) -> Any:
    return json.loads((interfaces.FOLDER / f"{name}.json").read_text())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return interfaces.unpack(tmp_path / "unpacked")


def test_python_names_and_signatures() -> None:
    assert interfaces.python() == promised("python")


def test_commands_and_options() -> None:
    assert interfaces.commands() == promised("commands")


def test_rest_addresses() -> None:
    assert interfaces.rest() == promised("rest")


def test_json_of_commands(home: Path) -> None:
    found = interfaces.command_shapes(home)
    for name, shape in promised("command_shapes").items():
        assert found[name] == shape, name
    assert {*found} == {*promised("command_shapes")}


def test_json_of_rest(home: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, [home])
    try:
        found = interfaces.rest_shapes(lambda address: server.ask(address)[1])
    finally:
        server.stop()
    for name, shape in promised("rest_shapes").items():
        assert found[name] == shape, name
