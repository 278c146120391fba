"""PostgreSQL does what every store must."""

from __future__ import annotations

import pytest

from tests.conformance import SPECS
from tests.conformance.backend import Backend


@pytest.mark.parametrize("name", SPECS)
def test_postgresql(name: str, on_server: Backend) -> None:
    SPECS[name](on_server)
