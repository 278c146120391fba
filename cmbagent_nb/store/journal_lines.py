"""Appends lines to the journals of runs for the writer, and keeps them while a journal's disk is full."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from cmbagent_nb.logs import get_logger
from cmbagent_nb.store.batch import Batch
from cmbagent_nb.store.claims import may_write
from cmbagent_nb.store.files import from_record
from cmbagent_nb.store.images import KIND as IMAGES_KIND
from cmbagent_nb.store.images import Image
from cmbagent_nb.store.journal import FILE_NAME as JOURNAL
from cmbagent_nb.store.journal import JournalFiles
from cmbagent_nb.store.transient_errors import is_full, reason
from cmbagent_nb.store.values import Row

log = get_logger(__name__)

#: Images of rows in one line of a journal, and runs whose journal is remembered.
IMAGES = 16
REMEMBERED = 1000

#: Seconds until a journal whose disk was full is tried again.
LOOK_AGAIN = 0.5

#: The time of a line, its kind, its data as JSON, and the checkpoint whose position it is.
Line = tuple[float, str, str, Row | None]


class JournalLines:
    """The journals that a writer has open, and the lines that wait for space on their disks.

    Parameters
    ----------
    home
        The workspace's folder.
    work_dir
        Returns the stored work directory of a run.
    fault
        Records a line that cannot be written: operation, journal, line, error.
    """

    def __init__(
        self,
        home: Path,
        work_dir: Callable[[str], str | None],
        fault: Callable[[str, str, Any, BaseException], None],
    ) -> None:
        self._home = home
        self._work_dir = work_dir
        self._fault = fault
        self._files = JournalFiles()
        self._deferred: dict[Path, deque[Line]] = {}
        self._look_again = 0.0
        self._journal_of: OrderedDict[str, Path | None] = OrderedDict()
        #: The reason why lines wait; empty when none does.
        self.trouble = ""

    @property
    def waiting(self) -> bool:
        """Whether lines wait for space on a disk."""
        return bool(self._deferred)

    @property
    def due(self) -> bool:
        """Whether lines wait, and it is time to try again."""
        return bool(self._deferred) and time.monotonic() >= self._look_again

    def close(self) -> None:
        """Close the files; the next line opens its own again."""
        self._files.close()

    def append(self, batch: Batch, path: Path, line: Line) -> None:
        """Append a line to its journal, or keep it here while the journal's disk is full."""
        if path in self._deferred:
            self._deferred[path].append(line)
            return
        try:
            self._line(batch, path, line)
        except OSError as error:
            if not is_full(error):
                raise
            self._defer(path, line, error)

    def append_images(self, images: Iterable[Image]) -> None:
        """Append what was committed to the journals of its runs."""
        groups: dict[Path, list[dict[str, Any]]] = {}
        for image in images:
            path = self._journal(image)
            if path is not None:
                groups.setdefault(path, []).append(image.as_data())
        for path, rows in groups.items():
            try:
                for start in range(0, len(rows), IMAGES):
                    text = orjson.dumps({"rows": rows[start : start + IMAGES]}).decode()
                    self.append(Batch(), path, (time.time(), IMAGES_KIND, text, None))
            except Exception as error:  # no journal that can be written
                self._fault("journal", str(path), f"{len(rows)} images of rows", error)

    def _journal(self, image: Image) -> Path | None:
        """Return the journal of an image's run; None where there is no folder of ours for it."""
        run_id = image.run_id
        if image.table == "workflow_runs" and "work_dir" in image.columns:
            self._journal_of.pop(run_id, None)
        if run_id not in self._journal_of:
            stored = self._work_dir(run_id)
            folder = Path(from_record(self._home, stored)) if stored else None
            ours = folder is not None and may_write(self._home, folder, run_id)
            self._journal_of[run_id] = folder / JOURNAL if folder is not None and ours else None
            while len(self._journal_of) > REMEMBERED:
                self._journal_of.popitem(last=False)
        path = self._journal_of[run_id]
        return path if path is not None and path.parent.is_dir() else None

    def _line(self, batch: Batch, path: Path, line: Line) -> None:
        at, kind, text, checkpoint = line
        position = self._files.append(path, at, kind, text)
        if checkpoint is not None:
            batch.insert("checkpoints", {**checkpoint, "journal_position": position})

    def _defer(self, path: Path, line: Line, error: Exception) -> None:
        """Keep a line here while the disk of its journal is full: the database may be on another."""
        if path not in self._deferred:
            log.warning("waiting for the journal %s: %s", path, reason(error))
        self._deferred.setdefault(path, deque()).append(line)
        self.trouble = f"the journal {path} cannot be written: {reason(error)}"
        self._look_again = time.monotonic() + LOOK_AGAIN

    def catch_up(self, batch: Batch, *, last: bool = False) -> None:
        """Write the deferred lines in their order, as far as possible."""
        for path, lines in list(self._deferred.items()):
            try:
                while lines:
                    self._line(batch, path, lines[0])
                    lines.popleft()
            except OSError as error:
                if is_full(error) and not last:
                    self._look_again = time.monotonic() + LOOK_AGAIN
                    continue
                for line in lines:
                    self._fault("journal", str(path), line, error)
            del self._deferred[path]
        if not self._deferred:
            self.trouble = ""
