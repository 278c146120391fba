"""The embedded store does what every store must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import SPECS
from tests.conformance.backend import Backend, locked


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A workspace's folder with nothing in it."""
    monkeypatch.setattr("cmbagent_nb.store.database.BUSY_TIMEOUT", 0.1)
    made = Backend(tmp_path / "home", "", lambda: locked(tmp_path / "home" / "cmbagent.db"))
    yield made
    made.close()


@pytest.mark.parametrize("name", SPECS)
def test_sqlite(name: str, backend: Backend) -> None:
    SPECS[name](backend)
