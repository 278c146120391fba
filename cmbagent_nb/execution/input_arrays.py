"""Stores arrays as files, with their masks, units and field names.

| value | file |
|---|---|
| array, record array, memory map | ``.npy``, with its own dtype |
| masked array | ``.npy``, NaN where floats are masked; of others, and where NaN occurs, the mask as a second file |
| quantity of astropy or pint, column of a table of astropy | the array, its unit in the description |
| sparse matrix of scipy | ``.npz`` |
| DataArray or Dataset of xarray | netCDF, if it reads back the same |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import InputError

#: Classes of numpy whose content is all that they mean.
_CLASSES = frozenset({"ndarray", "memmap", "recarray", "matrix", "chararray"})


@dataclass(frozen=True)
class Written:
    """A file that holds a variable, and what is said of it; ``FILE`` stands for its path."""

    path: str
    kind: str
    description: str


def refused(name: str, value: Any, why: str, next_step: str = "") -> InputError:
    """Return the error for a variable that no file can hold as it is."""
    return InputError(
        f"the input {name!r} ({type(value).__name__}) cannot be stored: {why}",
        next_step or "Give a DataFrame, an array, a path to a file, or what JSON can hold.",
        name=name,
    )


def write_array(name: str, value: Any, folder: Path) -> Written:
    """Write an array of numpy."""
    import numpy as np

    if isinstance(value, np.ma.MaskedArray):
        return _write_masked(name, value, np.ma.getmaskarray(value), folder)
    if type(value).__module__.partition(".")[0] != "numpy" or type(value).__name__ not in _CLASSES:
        raise refused(name, value, "a class of arrays that is not known may mean more than its numbers", _PLAIN_ARRAY)
    plain = _save(name, value, np.asarray(value), folder)
    fields = value.dtype.names
    note = f"; fields {', '.join(fields)}" if fields else ""
    if type(value).__name__ == "recarray":
        note += "; a record array: .view(numpy.recarray)"
    elif type(value).__name__ == "matrix":
        note += "; it was a numpy.matrix"
    return replace(plain, description=plain.description + note)


_PLAIN_ARRAY = "Give its numbers as numpy.asarray(…), and say their unit in the task."


def _save(name: str, value: Any, data: Any, folder: Path, suffix: str = "") -> Written:
    import numpy as np

    if data.dtype.hasobject:
        raise refused(name, value, "arrays of objects cannot be stored safely", "Convert it: x.astype(float), or str.")
    np.save(folder / f"{name}{suffix}.npy", data, allow_pickle=False)
    about = f"array of {data.dtype}, shape {data.shape}; numpy.load('FILE')"
    return Written(f"{name}{suffix}.npy", type(value).__name__, about)


def _write_masked(name: str, value: Any, mask: Any, folder: Path) -> Written:
    """Write the data of a masked array, and its mask where the data cannot say it."""
    import numpy as np

    data = np.asarray(value)
    if data.dtype.names is None and not mask.any():
        plain = _save(name, value, data, folder)
        return replace(plain, description=f"{plain.description}; a masked array of which nothing is masked")
    missing = {"f": np.nan, "c": np.nan, "M": "NaT", "m": "NaT"}.get(data.dtype.kind)
    holes = ""
    told = False
    if missing is not None:
        told = not bool(np.any(np.isnat(data[~mask]) if data.dtype.kind in "Mm" else np.isnan(data[~mask])))
        data = data.copy()
        data[mask] = missing
        holes = f"; {'NaT' if missing == 'NaT' else 'NaN'} where it is masked"
    plain = _save(name, value, data, folder)
    count = (
        int(np.count_nonzero(mask))
        if mask.dtype.names is None
        else sum(int(mask[item].sum()) for item in mask.dtype.names)
    )
    about = f"masked {plain.description}{holes} ({count} of {mask.size} masked)"
    if told:
        return replace(plain, description=about)
    _save(name, value, mask, folder, "_mask")
    load = f"numpy.ma.array(numpy.load('FILE'), mask=numpy.load('FOLDER/{name}_mask.npy'))"
    return replace(plain, description=f"{about}; its mask is in FOLDER/{name}_mask.npy: {load}")


# ---- values with units


def unit_of(value: Any) -> str | None:
    """Return the unit of a quantity as text; ``None`` for anything but a quantity of astropy or pint."""
    module = type(value).__module__.partition(".")[0]
    if module == "pint" and hasattr(value, "magnitude"):
        return str(value.units)
    if module == "astropy" and hasattr(value, "unit") and hasattr(value, "shape"):
        return str(value.unit) if value.unit is not None else ""
    return None


def write_quantity(name: str, value: Any, unit: str, folder: Path) -> Written:
    """Write the numbers of a quantity, or of a column of astropy; its unit is in the description."""
    import numpy as np

    package = type(value).__module__.partition(".")[0]
    numbers, mask = value, None
    if package == "pint":
        numbers = value.magnitude
    else:
        if hasattr(value, "unmasked"):
            numbers, mask = value.unmasked, np.asarray(value.mask)
        numbers = numbers.value if hasattr(numbers, "value") else numbers
    if package == "pint" and not isinstance(numbers, np.ndarray | int | float):
        raise refused(name, value, f"its magnitude is a {type(numbers).__name__}", _PLAIN_ARRAY)
    if isinstance(numbers, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(numbers)
    data = np.atleast_1d(np.asarray(numbers))
    if mask is not None:
        made = _write_masked(name, np.ma.array(data, mask=np.atleast_1d(mask)), np.atleast_1d(mask), folder)
    else:
        made = _save(name, value, data, folder)
    scalar = "; a single value: [0]" if np.ndim(numbers) == 0 else ""
    said = f"; unit: {unit}" if unit and unit != "dimensionless" else "; without a unit"
    way = {"astropy": "astropy.units.Unit", "pint": "pint.UnitRegistry()"}[package]
    more = f" ({way}({unit!r}))" if unit and unit != "dimensionless" else ""
    return Written(made.path, type(value).__name__, f"{made.description}{scalar}{said}{more}")


# ---- sparse matrices, xarray


def write_sparse(name: str, value: Any, folder: Path) -> Written:
    """Write a sparse matrix of scipy."""
    import scipy.sparse as sp

    kept = value if value.format in ("csr", "csc", "coo", "bsr", "dia") else value.tocsr()
    sp.save_npz(folder / f"{name}.npz", kept)
    was = f"; it was of the format {value.format}" if kept is not value else ""
    about = f"sparse matrix ({kept.format}) of {value.dtype}, shape {value.shape}, {value.nnz} stored values"
    return Written(f"{name}.npz", type(value).__name__, f"{about}; scipy.sparse.load_npz('FILE'){was}")


def write_xarray(name: str, value: Any, folder: Path) -> Written:
    """Write a DataArray or a Dataset as netCDF; refuse one that does not read back the same."""
    import importlib

    xr = importlib.import_module("xarray")  # it is there: the value is of it

    path, kind = folder / f"{name}.nc", type(value).__name__
    opened = xr.open_dataarray if kind == "DataArray" else xr.open_dataset
    hint = "Give its parts as arrays, or x.to_dataframe()."
    try:
        value.to_netcdf(path)
        with opened(path) as back:
            same = bool(value.identical(back.load()))
    except Exception as error:  # whatever the libraries for netCDF raise
        raise refused(
            name, value, f"netCDF cannot hold it ({str(error).splitlines()[0] if str(error) else error!r})", hint
        ) from error
    if not same:
        raise refused(name, value, "read back from netCDF it is not the same", hint)
    names = [str(item) for item in (value.data_vars if kind == "Dataset" else [value.name or "without a name"])]
    units = value.attrs.get("units")
    said = f", units {units}" if units else ""
    about = f"{kind} ({', '.join(names)}) with the dimensions {dict(value.sizes)}{said}"
    load = "xarray.open_dataarray" if kind == "DataArray" else "xarray.open_dataset"
    return Written(f"{name}.nc", kind, f"{about}; {load}('FILE')")
