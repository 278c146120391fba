"""The server that the tests of PostgreSQL share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.backend import Backend
from tests.postgres import Server, start


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests of a session."""
    server = start()
    if isinstance(server, str):
        pytest.skip(server)
    yield server
    server.close()


@pytest.fixture
def on_server(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A workspace's folder, and an empty database on the server."""
    monkeypatch.setattr("cmbagent_nb.store.database.READ_PATIENCE", 0.2)

    @contextmanager
    def gone() -> Iterator[None]:
        postgres.stop()
        try:
            yield
        finally:
            postgres.start()

    url = postgres.database()
    made = Backend(tmp_path / "home", url, gone)
    yield made
    made.close()
    postgres.drop(url)
