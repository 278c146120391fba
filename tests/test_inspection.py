"""Looking into data files of other people: read rightly, or with a doubt, and never the whole of a large one."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from cmbagent_nb.agents.inspection import inspect_file

RIGHT = {
    "european": ("e.csv", "name;x;y\na;1,5;2,25\nb;-3,0;1e3\n", ["separated by ';'", "decimal comma", "-3 to 1.5"]),
    "thousands": ("t.csv", "id;pop\na;1.234.567,5\nb;2.345,25\n", ["decimal comma", "by '.'", "1.23457e+06"]),
    "american": ("u.csv", 'id,pop\na,"1,234,567.5"\nb,"2,345.25"\n', ["by ','", "2345.25 to 1.23457e+06"]),
    "hash in text": ("h.csv", "id,name\n1,star #5\n2,#7\n", ["2 rows × 2", "star #5", "#7"]),
    "comments": ("c.csv", "# made by x\n# y\na,b\n1,2\n3,4\n", ["comment: # made by x", "a: int64, 1 to 3"]),
    "comment header": ("d.csv", "# ra,dec\n1.5,2\n3,4\n", ["ra: float64, 1.5 to 3", "names from the comment"]),
    "hash column": ("n.csv", "a,#,c\n1,2,3\n", ["#: int64", "1 rows × 3"]),
    "percent": ("p.dat", "% matlab\n1 2\n3 4\n", ["comment: % matlab", "2 rows × 2"]),
    "bom": ("b.csv", "\ufeffa,b\n1,2\n", ["a: int64", "utf-8-sig"]),
    "no names": ("m.csv", "1,2\n3,4\n", ["2 rows × 2", "without a line of names"]),
    "white space": ("w.csv", "a  b   c\n1  2   3\n4  5   6\n", ["white space", "c: int64, 3 to 6"]),
    "tabs": ("s.tsv", "a\tb\n1\tx y\n2\tz, w\n", ["a: int64", "x y"]),
    "pipes": ("q.csv", "a|b\n1|2,5\n3|4,75\n", ["'|'", "decimal comma", "2.5 to 4.75"]),
    "commas in text": ("k.csv", 'id,note\n1,"a; b, c"\n2,"d"\n', ["2 rows × 2", "separated by commas"]),
    "semicolons in text": ("l.csv", "id,note\n1,a; b\n2,c\n", ["2 rows × 2", "separated by commas"]),
    "missing": ("g.csv", "a;b\n1,5;\n;2,5\n", ["1 missing", "decimal comma"]),
    "one column": ("o.csv", "x\n1\n2\n", ["2 rows × 1", "x: int64, 1 to 2"]),
    "dates": ("z.csv", "t;v\n2020-01-02;1,5\n2020-01-03;2,5\n", ["2020-01-02", "1.5 to 2.5"]),
    "text is text": ("notes.txt", "The Answer\nis 42\nof course\n", ["text, begins:"]),
    "prose": ("p.txt", "First, we fit.\nThen, we plot, too.\nDone.\n", ["text, begins:"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", RIGHT)
def test_tables_of_all_kinds_are_read_rightly(tmp_path: Path, kind: str) -> None:
    name, text, words = RIGHT[kind]
    (tmp_path / name).write_text(text, encoding="utf-8")
    told = inspect_file(tmp_path / name)
    assert not [word for word in words if word not in told], told
    assert "NOT SURE" not in told, told


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("größe;wert\nå;1,5\n".encode("latin-1"))
    told = inspect_file(tmp_path / "l.csv")
    assert "größe" in told and "1.5" in told and "cp1252" in told
    (tmp_path / "u.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    assert "a: int64" in inspect_file(tmp_path / "u.csv")
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(b"a;b\n1,5;2\n"))
    assert "decimal comma" in inspect_file(tmp_path / "z.csv.gz")


UNSURE = {
    "one group": "id;v\na;1,234\nb;5,678\n",
    "both signs": "id;v\na;1,5\nb;2.75\n",
    "different lengths": "a,b,c\n1,2,3\n1,2\n1,2,3,4\n5,6,7\n",
    "mixed": "a,b\n1;2,3\n4,5;6\n7;8,9\n",
    "only texts": "a,b\nc,d\ne,f\n",
}


@pytest.mark.parametrize("kind", UNSURE)
def test_what_is_not_certain_is_said_with_the_lines(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.csv").write_text(UNSURE[kind])
    told = inspect_file(tmp_path / "x.csv")
    assert "NOT SURE" in told and UNSURE[kind].splitlines()[1] in told, told


@pytest.mark.parametrize("text", ["", "\n\n", "#\n", "a", '"', 'a,"b\nc', ",,,\n,,\n", "\0\0", "1" * 5000, "[" * 6000])
@pytest.mark.parametrize("name", ["x.csv", "x.dat", "x.json", "x.txt", "x.tsv", "x.npy", "x.parquet"])
def test_odd_files_are_described(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert inspect_file(tmp_path / name).startswith(name)


#: Looks into a file within 1 GB of address space above what its imports take.
LOOK = """
    import resource, sys
    from pathlib import Path
    import numpy, pandas, pyarrow.parquet, PIL.Image
    from cmbagent_nb.agents.inspection import inspect_file
    from cmbagent_nb.notebook.files import preview
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    mapped = int(sys.argv[2])
    limit = have + mapped + 700 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    path = Path(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(inspect_file(path)[:300])
    print(preview(path)[:300])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500 * 1024, f"{grown} kB"
"""

HUGE = 1500 * 2**20


def look(path: Path, mapped: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOOK), str(path), str(mapped)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts pages as Linux does")
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.svg", "x.csv", "x.dat", "x.txt", "x.json", "x.npy", "x.md"])
def test_a_huge_file_is_not_read_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    beginnings = {
        "x.npy": b"", "x.png": b"\x89PNG\r\n\x1a\n", "x.csv": b"a,b\n1,2\n" * 1000 + b"9", "x.json": b'{"a": "',
        "x.svg": b"<svg>", "x.dat": b"1 2\n" * 1000, "x.txt": b"one line: ",
    }  # fmt: skip
    if name == "x.npy":
        array = np.lib.format.open_memmap(
            path, mode="w+", dtype="f8", shape=(HUGE // 8 // 1000, 1000), fortran_order=True
        )
        del array
    else:
        with path.open("wb") as file:
            file.write(beginnings.get(name, b"x"))
            file.truncate(HUGE)
    assert name in look(path, HUGE if name == "x.npy" else 0)


def test_one_giant_line_and_large_parts(tmp_path: Path) -> None:
    (tmp_path / "line.csv").write_bytes(b"1," * (24 * 2**20))
    assert "text, begins" in inspect_file(tmp_path / "line.csv")
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b'{"a": "' + b"x" * (64 * 2**20)))
    assert inspect_file(tmp_path / "bomb.json.gz")
    (tmp_path / "many.csv").write_bytes(b"a,b\n" + b"1,2.5\n" * 4_000_000)
    told = inspect_file(tmp_path / "many.csv")
    assert "a: int64, 1 to 1" in told and "only the beginning of the file was read" in told


def test_a_picture_with_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    from PIL import Image

    from cmbagent_nb.notebook.files import preview

    Image.new("1", (30_000, 30_000)).save(tmp_path / "x.png")
    with (tmp_path / "x.png").open("ab") as file:
        file.truncate(500_000)
    assert "Too large to be shown" in preview(tmp_path / "x.png")
    Image.linear_gradient("L").resize((1600, 1200)).save(tmp_path / "y.png", compress_level=0)
    assert preview(tmp_path / "y.png").startswith("<img")
