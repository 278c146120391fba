"""What every store must do, as functions that take a :class:`~tests.conformance.backend.Backend`.

A new store needs a test file of about 30 lines: a fixture that makes its backend, and one test over ``SPECS``.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance import at_once, keeping, queries, reading, runs, schema, statuses, writing
from tests.conformance.backend import Backend

#: All that a store must do, by name.
SPECS: dict[str, Callable[[Backend], None]] = {
    f"{module.__name__.rpartition('.')[2]}.{spec.__name__}": spec
    for module in (schema, writing, reading, statuses, queries, keeping, at_once, runs)
    for spec in module.SPECS
}
