"""The journal of a run: one line an entry, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from cmbagent_nb.store.database import Database
from cmbagent_nb.store.journal import JournalFiles, read_journal
from cmbagent_nb.store.json import to_json
from cmbagent_nb.store.writer import Writer


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    """What the writer journals is read back with its numbers, also by a second writer."""
    db = Database.open(tmp_path)
    path = tmp_path / "runs" / "a" / "journal.jsonl"
    for part in range(2):
        writer = Writer(db)
        for number in range(3):
            writer.journal(path, "note", {"n": 3 * part + number, "nan": float("nan"), "text": 'a "quoted" \ud800'})
        writer.close()
        assert writer.faults == 0
    db.close()
    entries = list(read_journal(path))
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.data["n"] for entry in entries] == [0, 1, 2, 3, 4, 5]
    assert all(entry.kind == "note" and entry.v == 1 for entry in entries)
    assert entries == sorted(entries, key=lambda entry: entry.at)


def test_a_torn_line_hurts_no_other(tmp_path: Path) -> None:
    """A process that died in the middle of a line leaves all whole lines, and the next goes on with their numbers."""
    path = tmp_path / "journal.jsonl"
    files = JournalFiles()
    for number in range(3):
        files.append(path, 1.0, "note", to_json(number))
    files.close()
    whole = path.read_bytes()
    for cut in range(1, 40):
        path.write_bytes(whole[:-cut])
        left = [0, 1, 2] if cut == 1 else [0, 1]  # a line that lacks only its end is whole
        assert [entry.data for entry in read_journal(path)] == left
        again = JournalFiles()
        number = again.append(path, 2.0, "note", to_json("next"))
        again.close()
        assert number == len(left) + 1
        assert [entry.data for entry in read_journal(path)] == [*left, "next"]


def test_lines_that_are_not_ours_are_left_out(tmp_path: Path) -> None:
    """Garbage and lines of a newer version do not stop the reader; no file means no entries."""
    path = tmp_path / "journal.jsonl"
    good = '{"v":1,"seq":1,"at":1.0,"kind":"note","data":1}\n'
    path.write_text(good + '{"v":99,"seq":2,"at":1.0,"kind":"note","data":2}\n[1]\nnot json\n\n{"v":1}\n')
    assert [entry.data for entry in read_journal(path)] == [1]
    assert list(read_journal(tmp_path / "none.jsonl")) == []


def test_many_journals_at_once(tmp_path: Path) -> None:
    """More runs than files are kept open: every line arrives, every journal has its own numbers."""
    files = JournalFiles()
    paths = [tmp_path / f"{number}.jsonl" for number in range(40)]
    for turn in range(3):
        for path in paths:
            assert files.append(path, 1.0, "note", to_json(turn)) == turn + 1
    files.close()
    assert all([entry.data for entry in read_journal(path)] == [0, 1, 2] for path in paths)
