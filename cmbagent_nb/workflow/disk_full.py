"""Waits for free space when a run cannot write a file, so that paid results are not lost.

The run reports that it waits. When the disk stays full it ends as failed with its attempt left open: a resume
publishes the files of the code, without a model call and without running the code again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.errors import CMBAgentError, DiskFull
from cmbagent_nb.logs import get_logger
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.store.transient_errors import is_full

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context

T = TypeVar("T")

LOG = get_logger(__name__)

#: Seconds to wait for free space, and between two tries.
PATIENCE = 120.0
LOOK_AGAIN = 0.5


async def retry_while_disk_full(context: Context, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that writes files, on a thread, again and again while the disk is full.

    Raises
    ------
    DiskFull
        The disk stayed full.
    """
    started = time.monotonic()
    text = f"the disk of {context.work_dir} is full"
    reported = False
    try:
        while True:
            try:
                return await in_thread(function, *arguments)
            except (OSError, CMBAgentError) as error:
                if not is_full(error):
                    raise
                if time.monotonic() - started > PATIENCE:
                    raise full(context) from error
            if not reported:
                reported = True
                LOG.warning("run %s waits: %s", context.name, text)
                context.set_blocked_reason(text)
                context.stream.emit("waiting", reason=text)
            await asyncio.sleep(LOOK_AGAIN)
    finally:
        if reported:
            context.set_blocked_reason("")


def full(context: Context) -> DiskFull:
    """Return the error of a run that waited for space in vain."""
    return DiskFull(
        f"the disk of {context.work_dir} is full",
        f"Make space on it, then resume: %cmbagent resume {context.name}. Nothing is asked or computed twice.",
        path=str(context.work_dir),
    )
