"""Finding a run or a skill by what a person types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.errors import AmbiguousReference, RunNotFound, SkillNotFound
from cmbagent_nb.ids import new_id, short
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.lookup import find_run, find_skill
from cmbagent_nb.store.writer import Writer

from .stored import T0, Record


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A fresh database."""
    opened = Database.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def writer(db: Database) -> Iterator[Writer]:
    """Its writer."""
    made = Writer(db)
    yield made
    made.close()
    assert made.faults == 0


def test_find_run(db: Database, writer: Writer) -> None:
    """An id, a name, the beginning or the end of an id."""
    one, two = Record(writer, name="planck"), Record(writer, name="desi")
    two.settle()
    for reference in (one.run, one.run.upper(), short(one.run), f" {one.run[-4:]} ", "planck"):
        assert find_run(db, reference)["id"] == one.run
    assert find_run(db, "planck")["meta"] == {"max_attempts": 3}
    for reference in ("", "nothing", "%", "_", "zzz", "plan"):
        with pytest.raises(RunNotFound, match="List the runs"):
            find_run(db, reference)


def test_an_ambiguous_reference_names_the_candidates(db: Database, writer: Writer) -> None:
    """Ids made at the same time begin alike; equal names are no better."""
    records = [Record(writer, name="same") for _ in range(7)]
    records[0].settle()
    for reference in (records[0].run[:3], "same"):
        with pytest.raises(AmbiguousReference, match=r"fits 7 runs.*and 2 more") as caught:
            find_run(db, reference)
        assert {item["id"] for item in caught.value.candidates} == {record.run for record in records}


def test_a_name_comes_before_a_part_of_an_id(db: Database, writer: Writer) -> None:
    """A run named like the end of another's id is found by its name."""
    one = Record(writer, name="x")
    two = Record(writer, name=short(one.run))
    two.settle()
    assert find_run(db, short(one.run))["id"] == two.run


def test_find_skill(db: Database, writer: Writer) -> None:
    """A name means its newest active version; ``name@version`` a certain one."""
    ids = {}
    for version, status in ((1, "deprecated"), (2, "active"), (3, "draft")):
        ids[version] = new_id()
        row = {"id": ids[version], "name": "peaks", "version": version, "status": status, "created_at": T0}
        writer.insert("skills", {**row, "tags": ["cmb"], "parameters": [{"name": "lmax"}]})
    writer.barrier().result(30)
    assert find_skill(db, "peaks")["version"] == 2
    assert find_skill(db, "peaks")["parameters"] == [{"name": "lmax"}]
    for reference in ("peaks@3", "peaks@v3", "peaks v3", ids[3], short(ids[3])):
        assert find_skill(db, reference)["version"] == 3
    with pytest.raises(SkillNotFound, match="List the skills"):
        find_skill(db, "peaks@9")
    with pytest.raises(AmbiguousReference):
        find_skill(db, ids[1][:3])
