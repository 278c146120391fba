"""The library as it is matched: the texts of all skills as words and vectors, kept in memory and up to date.

| invariant | how |
|---|---|
| what is new is found | each look compares how many skills there are, and the newest id, with those in memory |
| what changes is read anew | status, trust and counts of those that are offered come from the database each time |
| a vector belongs to its model | one of another model is made again, when it is needed |
| no match waits for long | vectors are made for a second at most, the likeliest skills first; the rest later |
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.skills.matching import embedder as models
from cmbagent_nb.skills.matching.hybrid import Lexicon, combine
from cmbagent_nb.skills.matching.tfidf import plain
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cmbagent_nb.skills.matching.embedder import Embedder
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Seconds of a match in which vectors that are missing may be made.
PATIENCE_S = 1.0
#: Vectors that are made at once between two looks at the clock.
_BATCH = 16

_COLUMNS = "id, name, version, description, tags, task_pattern, parameters, task_embedding, embedding_model"


def meaning(row: dict[str, Any]) -> str:
    """Return what a model sees of a skill's row.

    >>> meaning({"name": "tt_peaks", "description": "Find the peaks.", "task_pattern": "Find the peaks.",
    ...          "parameters": [{"name": "lMax", "help": "the largest multipole"}], "tags": ["cmb"]})
    'tt peaks. Find the peaks. l max'
    """
    names = [plain(str(item.get("name", ""))) for item in row["parameters"] or []]
    return " ".join([f"{plain(row['name'])}. {_said(row)}", *names]).strip()


def wording(row: dict[str, Any]) -> str:
    """Return what is compared of a skill's row word by word.

    >>> wording({"name": "tt_peaks", "description": "Find the peaks.", "task_pattern": "", "tags": ["cmb"],
    ...          "parameters": [{"name": "lmax", "help": "the largest multipole"}]})
    'tt_peaks. Find the peaks. lmax the largest multipole cmb'
    """
    helps = [f"{item.get('name', '')} {item.get('help') or ''}".strip() for item in row["parameters"] or []]
    return " ".join([f"{row['name']}. {_said(row)}", *helps, *(str(tag) for tag in row["tags"] or [])]).strip()


def _said(row: dict[str, Any]) -> str:
    """Return a skill's description, and its task where that says more."""
    description, task = (row["description"] or "").strip(), (row["task_pattern"] or "").strip()
    return description if not task or task == description else f"{description} {task}".strip()


@dataclass(frozen=True)
class Compared:
    """How a task compares with each skill's name: the best of its versions counts."""

    names: list[str]
    semantic: NDArray[np.float32] | None
    lexical: NDArray[np.float32]


class Library:
    """The skills of a workspace, ready to be compared with a task."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._state: tuple[int, str | None] | None = None
        self._ids: list[str] = []
        self._made_by: list[str | None] = []
        self._rows: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._name_of: NDArray[np.int64] = np.zeros(0, np.int64)
        self._lexicon = Lexicon([])
        self._vectors: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        #: Which skills have a vector of this model.
        self._model = ""
        self._has_vector: NDArray[np.bool_] = np.zeros(0, bool)

    def compare(self, db: Database, writer: Writer, task: str, embedder: Embedder | None) -> Compared:
        """Compare a task with every skill; one whose vector could not be made in time has no meaning in common."""
        with self._lock:
            self._refresh(db)
            lexical = self._lexicon.scores(task)
            semantic = None
            if embedder is not None and self._ids:
                question = embedder.encode([task])[0]
                self._make_vectors(db, writer, embedder, lexical)
                semantic = np.where(self._has_vector, self._vectors @ question, np.float32(0))
            return self._best(semantic, lexical)

    def _best(self, semantic: NDArray[np.float32] | None, lexical: NDArray[np.float32]) -> Compared:
        """Return the best version of each name."""
        if len(self._names) == len(self._ids):
            return Compared(self._names, semantic, lexical)
        order = np.argsort(-combine(semantic, lexical), kind="stable")
        _, first = np.unique(self._name_of[order], return_index=True)
        best = order[first]
        return Compared(self._names, None if semantic is None else semantic[best], lexical[best])

    def _refresh(self, db: Database) -> None:
        found = db.rows("SELECT COUNT(*) AS size, MAX(id) AS newest FROM skills")[0]
        state = (int(found["size"]), found["newest"])
        if state == self._state:
            return
        rows = db.rows(f"SELECT {_COLUMNS} FROM skills ORDER BY name, version")
        for row in rows:
            row["tags"], row["parameters"] = from_json(row["tags"]), from_json(row["parameters"])
        self._ids = [row["id"] for row in rows]
        self._names = list(dict.fromkeys(row["name"] for row in rows))
        place_of = {name: place for place, name in enumerate(self._names)}
        self._name_of = np.array([place_of[row["name"]] for row in rows], np.int64)
        self._lexicon = Lexicon([wording(row) for row in rows])
        stored = [bytes(row.pop("task_embedding") or b"") for row in rows]
        self._rows = rows
        length = max(map(len, stored), default=0)
        self._vectors = np.zeros((len(rows), length // 4), np.float32)
        self._made_by = [None] * len(rows)
        for place, (row, vector) in enumerate(zip(rows, stored, strict=True)):
            if vector and len(vector) == length:
                self._vectors[place] = np.frombuffer(vector, "<f4")
                self._made_by[place] = row["embedding_model"]
        self._model = ""
        self._state = state

    def _make_vectors(self, db: Database, writer: Writer, embedder: Embedder, lexical: NDArray[np.float32]) -> None:
        """Make the vectors that are missing or of another model, the likeliest skills first."""
        if self._model != embedder.model:
            self._has_vector = np.array([models.same_model(name, embedder) for name in self._made_by], bool)
            self._model = embedder.model
        has_vector = self._has_vector
        missing = np.flatnonzero(~has_vector)
        missing = missing[np.argsort(-lexical[missing], kind="stable")]
        until = time.monotonic() + PATIENCE_S
        made: list[tuple[bytes, str, str]] = []
        for first in range(0, len(missing), _BATCH):
            places = missing[first : first + _BATCH]
            vectors = embedder.encode([meaning(self._rows[place]) for place in places])
            if self._vectors.shape[1] != vectors.shape[1]:
                self._vectors = np.zeros((len(self._ids), vectors.shape[1]), np.float32)
            self._vectors[places] = vectors
            has_vector[places] = True
            for place, vector in zip(places, vectors, strict=True):
                self._made_by[place] = embedder.name
                made.append((vector.astype("<f4").tobytes(), embedder.name, self._ids[place]))
            if time.monotonic() > until:
                break
        if made:
            _store(db, writer, made)


def _store(db: Database, writer: Writer, made: list[tuple[bytes, str, str]]) -> None:
    """Keep vectors with the name of their model; nobody waits for it: what is lost is made again."""
    from cmbagent_nb.skills.rows import mark

    sql = "UPDATE skills SET task_embedding = {0}, embedding_model = {0} WHERE id = {0}".format(mark(db))

    def store(connection: Connection) -> None:
        connection.exec_driver_sql(sql, made)

    writer.call(store)


_LIBRARIES: weakref.WeakKeyDictionary[Database, Library] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def library(db: Database) -> Library:
    """Return the library in this database, as this process has it in memory."""
    with _LOCK:
        return _LIBRARIES.setdefault(db, Library())
