"""Keep the texts of all skills in memory as words and vectors, up to date, and compare a task with them.

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
from cmbagent_nb.skills.matching import weights
from cmbagent_nb.skills.matching.lexical import Lexicon, plain
from cmbagent_nb.skills.matching.tfidf import Index
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.skills.matching.embedder import Embedder
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Seconds of a match in which vectors that are missing may be made.
PATIENCE_S = 1.0
#: Vectors that are made at once between two looks at the clock.
_BATCH = 8

_COLUMNS = "id, name, description, tags, task_pattern, parameters, task_embedding, embedding_model"


def meaning(row: dict[str, Any]) -> str:
    """Return what a model sees of a skill's row as a whole.

    >>> meaning({"name": "tt_peaks", "description": "Find the peaks.", "task_pattern": "Find the peaks.",
    ...          "parameters": [{"name": "lMax", "help": "the largest multipole"}], "tags": ["cmb"]})
    'tt peaks. Find the peaks. l max'
    """
    names = [plain(str(item.get("name", ""))) for item in row["parameters"] or []]
    return " ".join([f"{plain(row['name'])}. {' '.join(parts(row))}", *names]).strip()


def wording(row: dict[str, Any]) -> str:
    """Return what is compared of a skill's row word by word.

    >>> wording({"name": "tt_peaks", "description": "Find the peaks.", "task_pattern": "", "tags": ["cmb"],
    ...          "parameters": [{"name": "lmax", "help": "the largest multipole"}]})
    'tt_peaks. Find the peaks. lmax the largest multipole cmb'
    """
    helps = [f"{item.get('name', '')} {item.get('help') or ''}".strip() for item in row["parameters"] or []]
    return " ".join(
        [f"{row['name']}. {' '.join(parts(row))}", *helps, *(str(tag) for tag in row["tags"] or [])]
    ).strip()


def parts(row: dict[str, Any]) -> list[str]:
    """Return the texts to which a task may be equal: a skill's description, and its own task where that differs."""
    said = ((row["description"] or "").strip(), (row["task_pattern"] or "").strip())
    return list(dict.fromkeys(text for text in said if text))


def texts(row: dict[str, Any]) -> list[str]:
    """Return the texts whose vectors are kept: the skill as a whole, and its parts.

    A task that is a skill's own has the cosine 1 with one of them.
    """
    return [meaning(row), *parts(row)]


@dataclass(frozen=True)
class Compared:
    """Similarity of a task with each version of each skill."""

    ids: list[str]
    names: list[str]
    semantic: NDArray[np.float32] | None
    lexical: NDArray[np.float32]
    ngrams: NDArray[np.float32]


class Library:
    """The skills of a workspace, ready to be compared with a task."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._state: tuple[int, str | None] | None = None
        self._ids: list[str] = []
        self._names: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._made_by: list[str | None] = []
        self._lexicon = Lexicon([])
        self._ngrams = Index([])
        #: The vectors of all texts, and where those of each skill begin.
        self._vectors: NDArray[np.float32] = np.zeros((0, weights.DIMENSIONS), np.float32)
        self._starts: NDArray[np.intp] = np.zeros(1, np.intp)
        #: Which skills have vectors of this model.
        self._model = ""
        self._has_vectors: NDArray[np.bool_] = np.zeros(0, bool)

    def compare(self, db: Database, writer: Writer, task: str, embedder: Embedder | None) -> Compared:
        """Compare a task with every skill; one whose vectors could not be made in time has no meaning in common."""
        with self._lock:
            self._refresh(db)
            ngrams = self._ngrams.scores(task)
            semantic = None
            if embedder is not None and self._ids:
                question = embedder.encode([task])[0]
                self._make_vectors(db, writer, embedder, ngrams)
                best = np.maximum.reduceat(self._vectors @ question, self._starts[:-1])
                semantic = np.where(self._has_vectors, best, np.float32(0))
            return Compared(self._ids, self._names, semantic, self._lexicon.scores(task), ngrams)

    def _refresh(self, db: Database) -> None:
        found = db.rows("SELECT COUNT(*) AS size, MAX(id) AS newest FROM skills")[0]
        state = (int(found["size"]), found["newest"])
        if state == self._state:
            return
        rows = db.rows(f"SELECT {_COLUMNS} FROM skills ORDER BY name, version")
        for row in rows:
            row["tags"], row["parameters"] = from_json(row["tags"]), from_json(row["parameters"])
        self._ids, self._names = [row["id"] for row in rows], [row["name"] for row in rows]
        whole = [wording(row) for row in rows]
        self._lexicon = Lexicon(whole)
        self._ngrams = Index(whole)
        self._starts = np.cumsum([0, *(1 + len(parts(row)) for row in rows)], dtype=np.intp)
        self._vectors = np.zeros((self._starts[-1], weights.DIMENSIONS), np.float32)
        self._made_by = [None] * len(rows)
        for place, row in enumerate(rows):
            own = self._vectors[self._starts[place] : self._starts[place + 1]]
            stored = np.frombuffer(bytes(row.pop("task_embedding") or b""), "<f4")
            if stored.size == own.size:
                own[:] = stored.reshape(own.shape)
                self._made_by[place] = row["embedding_model"]
        self._rows = rows
        self._model = ""
        self._state = state

    def _make_vectors(self, db: Database, writer: Writer, embedder: Embedder, likely: NDArray[np.float32]) -> None:
        """Make the vectors that are missing or of another model, the likeliest skills first."""
        if self._model != embedder.model:
            self._has_vectors = np.array([models.same_model(name, embedder) for name in self._made_by], bool)
            self._model = embedder.model
        missing = np.flatnonzero(~self._has_vectors)
        missing = missing[np.argsort(-likely[missing], kind="stable")]
        until = time.monotonic() + PATIENCE_S
        made: list[tuple[bytes, str, str]] = []
        for first in range(0, len(missing), _BATCH):
            places = missing[first : first + _BATCH]
            vectors = embedder.encode([text for place in places for text in texts(self._rows[place])])
            done = 0
            for place in places:
                begin, end = self._starts[place], self._starts[place + 1]
                self._vectors[begin:end] = own = vectors[done : done + end - begin]
                done += end - begin
                self._made_by[place] = embedder.name
                made.append((own.astype("<f4").tobytes(), embedder.name, self._ids[place]))
            self._has_vectors[places] = True
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
