"""Compares files that hold values: JSON and YAML, tables, arrays, databases, FITS and HDF5.

Numbers are compared within a tolerance; a value whose name says that it is a time, or that is the present time, is not.
Readers that are not installed are no reason to fail: such files are compared by their bytes then, and that is said.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from cmbagent_nb.skills.verifying.look import Different, Look, NoComparison, is_volatile, short, some
from cmbagent_nb.skills.verifying.rounding import RTOL, in_list, rounding


def json_files(old: Path, new: Path, look: Look) -> None:
    """Compare two JSON files."""
    first, second = (json.loads(path.read_text(encoding="utf-8-sig")) for path in (old, new))
    values("", first, second, look)


def json_lines(old: Path, new: Path, look: Look) -> None:
    """Compare two files with a JSON value a line."""
    first, second = (
        [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        for path in (old, new)
    )
    values("", first, second, look)


def yaml_files(old: Path, new: Path, look: Look) -> None:
    """Compare two YAML files."""
    import yaml

    first, second = (list(yaml.safe_load_all(path.read_text(encoding="utf-8-sig"))) for path in (old, new))
    values("", first, second, look)


def toml_files(old: Path, new: Path, look: Look) -> None:
    """Compare two TOML files."""
    import tomllib

    first, second = (tomllib.loads(path.read_text(encoding="utf-8-sig")) for path in (old, new))
    values("", first, second, look)


def values(where: str, old: Any, new: Any, look: Look, allowed: Any = 0.0) -> None:
    """Compare two values as JSON has them; raises :class:`Different` where they are not the same.

    Parameters
    ----------
    allowed
        The difference that is rounding where the value stands in a column; by key for a record.
    """
    place = where or "the whole"
    if isinstance(old, dict) and isinstance(new, dict):
        _mappings(where, old, new, look, allowed or {})
    elif isinstance(old, list) and isinstance(new, list):
        _lists(where, old, new, look, allowed or {})
    elif _number(old) and _number(new) and (isinstance(old, float) or _is_moment(old, new, look)):
        look.number(place, old, float(new), allowed if isinstance(allowed, float) else 0.0)
    elif isinstance(old, str) and isinstance(new, str):
        if not look.same_text(place, old, new):
            raise Different(f"{place}: {short(old)} became {short(new)}")
    elif type(old) is not type(new) or old != new:
        if hasattr(old, "isoformat") and hasattr(new, "isoformat") and look.same_text(place, str(old), str(new)):
            return
        raise Different(f"{place}: {short(old)} became {short(new)}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_moment(old: float, new: float, look: Look) -> bool:
    from cmbagent_nb.skills.verifying.moments import is_moment_number

    return not look.exact and old != new and abs(new) < 1e300 and 1e9 <= old <= new and is_moment_number(new)


def _mappings(where: str, old: dict[str, Any], new: dict[str, Any], look: Look, allowed: dict[Any, float]) -> None:
    if old.keys() != new.keys():
        raise Different(f"{where or 'the whole'}: keys {some(old.keys() ^ new.keys())} are in one only")
    for key, value in old.items():
        inner = f"{where}.{key}" if where else str(key)
        if not is_volatile(str(key)):
            values(inner, value, new[key], look, allowed.get(key, 0.0))
        elif value != new[key]:
            look.skip(inner)


def _lists(where: str, old: list[Any], new: list[Any], look: Look, columns: dict[Any, float]) -> None:
    if len(old) != len(new):
        raise Different(f"{where or 'the whole'}: {len(old)} entries became {len(new)}")
    if old == new:
        return
    along = in_list(old, new, exact=look.exact)
    for position, (first, second) in enumerate(zip(old, new, strict=True)):
        allowed = columns.get(position, along[position])
        if isinstance(first, list) and len(first) > len(old):
            allowed = {}  # its own numbers are the column
        values(f"{where}[{position}]", first, second, look, allowed)


# ---- tables


def table_files(old: Path, new: Path, look: Look) -> None:
    """Compare two tables: CSV, TSV, parquet, feather."""
    tables(_table(old), _table(new), look)


def tables(first: Any, second: Any, look: Look) -> None:
    """Compare two DataFrames, column by column."""
    if list(first.columns) != list(second.columns):
        raise Different(f"columns {list(first.columns)} became {list(second.columns)}")
    if len(first) != len(second):
        raise Different(f"{len(first)} rows became {len(second)}")
    for position, name in enumerate(first.columns):
        one, other = first.iloc[:, position], second.iloc[:, position]
        if is_volatile(str(name)) and not one.equals(other):
            look.skip(str(name))
            continue
        _column(f"column {name}", one, other, look)
    if not first.index.equals(second.index):
        _column("the index", first.index.to_series(), second.index.to_series(), look)


def _table(path: Path) -> Any:
    import pandas as pd

    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return pd.read_parquet(path)
    if suffix in (".feather", ".arrow", ".ipc"):
        return pd.read_feather(path)
    return pd.read_csv(path, sep="\t" if suffix in (".tsv", ".tab") else ",", low_memory=False)


def spaced_files(old: Path, new: Path, look: Look) -> None:
    """Compare two texts of numbers, as numpy writes them: word by word, numbers as numbers."""
    first, second = (path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() for path in (old, new))
    if len(first) != len(second):
        raise Different(f"{len(first)} lines became {len(second)}")
    rounded: set[int] | None = None
    for number, (line, other) in enumerate(zip(first, second, strict=True), start=1):
        if line != other and not look.same_numbers(f"line {number}", line, other):
            rounded = look.rounded_lines(first, second) if rounded is None else rounded
            if number in rounded:
                continue
            raise Different(f"line {number}: {short(line)} became {short(other)}")


def _column(name: str, old: Any, new: Any, look: Look) -> None:
    kinds = old.dtype.kind + new.dtype.kind if hasattr(old.dtype, "kind") and hasattr(new.dtype, "kind") else "OO"
    if set(kinds) <= set("fciu") and "f" in kinds:
        _numbers(name, old.to_numpy(dtype=float), new.to_numpy(dtype=float), look)
        return
    for position, (first, second) in enumerate(zip(old.tolist(), new.tolist(), strict=True)):
        where = f"{name}, row {position}"
        if isinstance(first, float) and isinstance(second, float):
            look.number(where, first, second)
        elif isinstance(first, (list, dict)) and isinstance(second, (list, dict)):
            values(where, first, second, look)
        elif str(first) != str(second) and not (
            isinstance(first, str) == isinstance(second, str) and look.same_text(name, str(first), str(second))
        ):
            raise Different(f"{where}: {short(first)} became {short(second)}")


# ---- arrays


def array_files(old: Path, new: Path, look: Look) -> None:
    """Compare two files of numpy: one array, or several by name. Pickled objects are not loaded."""
    import numpy as np

    if old.suffix.lower() == ".npy":
        first_array, second_array = (_loaded(path) for path in (old, new))
        array("the array", first_array, second_array, look)
        return
    with np.load(old, allow_pickle=False) as first, np.load(new, allow_pickle=False) as second:
        if sorted(first.files) != sorted(second.files):
            raise Different(f"arrays {some(set(first.files) ^ set(second.files))} are in one only")
        for name in first.files:
            try:
                one, other = first[name], second[name]
            except ValueError as error:
                raise NoComparison("it holds pickled objects, which are never loaded") from error
            array(f"array {name}", one, other, look)


def _loaded(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise NoComparison("it holds pickled objects, which are never loaded") from error
        raise


def array(where: str, old: Any, new: Any, look: Look) -> None:
    """Compare two arrays: shape, kind and values."""
    import numpy as np

    if old.shape != new.shape or old.dtype != new.dtype:
        raise Different(f"{where}: {old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}")
    if old.dtype.names:
        for name in old.dtype.names:
            array(f"{where}, field {name}", old[name], new[name], look)
    elif old.dtype.kind == "c":
        _numbers(where, old.real, new.real, look)
        _numbers(where, old.imag, new.imag, look)
    elif old.dtype.kind == "f":
        _numbers(where, old, new, look)
    elif old.dtype.kind in "SUO":
        for position, (first, second) in enumerate(zip(old.ravel().tolist(), new.ravel().tolist(), strict=True)):
            one, other = (
                item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in (first, second)
            )
            if one != other and not look.same_text(where, str(one), str(other)):
                raise Different(f"{where}, at {position}: {short(one)} became {short(other)}")
    elif not np.array_equal(old, new):
        raise Different(f"{where}: {int((old != new).sum())} of {old.size} values differ")


def _numbers(where: str, old: Any, new: Any, look: Look) -> None:
    import numpy as np

    old, new = np.asarray(old, dtype=float), np.asarray(new, dtype=float)
    finite = np.isfinite(old)
    close = np.isclose(new, old, rtol=RTOL, atol=rounding(old, new, exact=look.exact), equal_nan=True)
    if not close.all():
        position = int(np.argmax(~close.ravel()))
        first, second = old.ravel()[position], new.ravel()[position]
        raise Different(
            f"{where}: {int((~close).sum())} of {close.size} numbers differ, at {position} {first!r} became {second!r}"
        )
    both = finite & np.isfinite(new) & (old != 0)
    if both.any():
        look.largest = max(look.largest, float(np.abs((new[both] - old[both]) / old[both]).max()))


# ---- databases and formats of science


def databases(old: Path, new: Path, look: Look) -> None:
    """Compare two SQLite databases, table by table, read-only."""
    import sqlite3

    with (
        closing(sqlite3.connect(f"{old.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as first,
        closing(sqlite3.connect(f"{new.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as second,
    ):
        query = "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        schemas = [dict(connection.execute(query).fetchall()) for connection in (first, second)]
        if schemas[0] != schemas[1]:
            raise Different("the tables or their columns differ")
        for name in sorted(schemas[0]):
            quoted = '"' + name.replace('"', '""') + '"'
            cursors = [connection.execute(f"SELECT * FROM {quoted}") for connection in (first, second)]
            columns = [item[0] for item in cursors[0].description]
            rows = [[dict(zip(columns, row, strict=True)) for row in cursor.fetchall()] for cursor in cursors]
            values(f"table {name}", rows[0], rows[1], look)


def fits_files(old: Path, new: Path, look: Look) -> None:
    """Compare two FITS files: header cards but for dates and checksums, and the data, by our own reader."""
    from cmbagent_nb.skills.verifying import fits

    first, second = fits.read(old), fits.read(new)
    if len(first) != len(second):
        raise Different(f"{len(first)} extensions became {len(second)}")
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        where = f"extension {number}"
        values(f"{where}, header", one.cards, other.cards, look)
        if one.data is None or other.data is None:
            if one.raw != other.raw:
                raise NoComparison(f"{where} is of a form that is not read here")
            continue
        array(where, one.data, other.data, look)


def hdf5_files(old: Path, new: Path, look: Look) -> None:
    """Compare two HDF5 or NetCDF 4 files, where h5py is installed; the content, and attributes but for dates."""
    try:
        import h5py  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise NoComparison("h5py is not installed, which reads it") from None
    with h5py.File(old, "r") as first, h5py.File(new, "r") as second:
        contents: list[dict[str, Any]] = []
        for file in (first, second):
            found: dict[str, Any] = {"/": file}
            file.visititems(found.__setitem__)
            contents.append(found)
        if contents[0].keys() != contents[1].keys():
            raise Different(f"{some(contents[0].keys() ^ contents[1].keys())} are in one only")
        for name, item in contents[0].items():
            other = contents[1][name]
            for key in sorted({*item.attrs, *other.attrs}):
                _attribute(f"{name}, attribute {key}", key, item.attrs.get(key), other.attrs.get(key), look)
            if isinstance(item, h5py.Dataset) != isinstance(other, h5py.Dataset):
                raise Different(f"{name} is no longer what it was")
            if isinstance(item, h5py.Dataset):
                array(name, _dataset(item), _dataset(other), look)


def _dataset(item: Any) -> Any:
    import numpy as np

    return np.asarray(item[()])


def _attribute(where: str, key: str, old: Any, new: Any, look: Look) -> None:
    import numpy as np

    if old is None or new is None:
        raise Different(f"{where} is in one only")
    first, second = np.asarray(old), np.asarray(new)
    if first.dtype.kind == "V" or (first.dtype.kind == "O" and first.dtype.metadata):
        return  # references of HDF5 to its own parts
    if is_volatile(key) or key.lower() in ("history", "date", "date_created", "creation_date"):
        if first.shape != second.shape or (first != second).any():
            look.skip(where)
        return
    array(where, first, second, look)


def netcdf_files(old: Path, new: Path, look: Look) -> None:
    """Compare two NetCDF files: version 3 by scipy, version 4 as the HDF5 file that it is."""
    with old.open("rb") as file:
        if file.read(3) != b"CDF":
            hdf5_files(old, new, look)
            return
    try:
        from scipy.io import netcdf_file
    except ImportError:
        raise NoComparison("scipy is not installed, which reads it") from None
    with netcdf_file(str(old), "r", mmap=False) as first, netcdf_file(str(new), "r", mmap=False) as second:
        if first.variables.keys() != second.variables.keys():
            raise Different(f"variables {some(first.variables.keys() ^ second.variables.keys())} are in one only")
        for name in first.variables:
            array(f"variable {name}", first.variables[name][...].copy(), second.variables[name][...].copy(), look)


def matlab_files(old: Path, new: Path, look: Look) -> None:
    """Compare two MATLAB files of version 5; their header holds a date."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise NoComparison("scipy is not installed, which reads it") from None
    try:
        first, second = (
            {name: value for name, value in loadmat(path).items() if not name.startswith("__")} for path in (old, new)
        )
    except NotImplementedError:
        hdf5_files(old, new, look)
        return
    if first.keys() != second.keys():
        raise Different(f"variables {some(first.keys() ^ second.keys())} are in one only")
    for name in first:
        array(f"variable {name}", first[name], second[name], look)
