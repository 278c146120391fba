"""Loads Planck 2018 temperature band powers, as the plik_lite likelihood uses them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

from cmbagent_nb.datasets.catalogue import data_file, described

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

_FOLDER = "planck2018_plik_lite"
_FIRST_ELL = 30  # the files count multipoles from here
_TT_BINS = 215  # the TT band powers come first, before TE and EE
_ALL_BINS = 613
_RECORD_MARK = 4  # bytes before and after the one Fortran record of the covariance file


def _numbers(name: str) -> npt.NDArray[np.float64]:
    import numpy as np

    return np.asarray(np.loadtxt(data_file(_FOLDER, name)), dtype=np.float64)


def _bin_edges() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last multipole (inclusive) of each TT bin."""
    first, last = (_numbers(name)[:_TT_BINS].astype("int64") + _FIRST_ELL for name in ("blmin.dat", "blmax.dat"))
    return first, last


def planck2018_tt() -> pd.DataFrame:
    """The 215 TT band powers: ``ell, ell_min, ell_max, cl, sigma`` (C_l in muK², no l(l+1)/2pi).

    >>> planck2018_tt()[["ell_min", "ell_max"]].agg(["min", "max"]).to_numpy().tolist()
    [[30, 34], [2476, 2508]]
    """
    import pandas as pd

    ell, cl, sigma = _numbers("cl_cmb_plik_v22.dat")[:_TT_BINS].T
    first, last = _bin_edges()
    columns: dict[str, Any] = {"ell": ell, "ell_min": first, "ell_max": last, "cl": cl, "sigma": sigma}
    return described(pd.DataFrame(columns), "planck2018_tt")


def planck2018_tt_covariance() -> pd.DataFrame:
    """The 215 x 215 covariance of :func:`planck2018_tt`, in muK⁴."""
    import numpy as np
    import pandas as pd

    raw = gzip.decompress(data_file(_FOLDER, "c_matrix_plik_v22.dat.gz").read_bytes())
    # One Fortran record that holds one triangle of the symmetric matrix.
    triangle = np.frombuffer(raw[_RECORD_MARK:-_RECORD_MARK], dtype="<f8").reshape(_ALL_BINS, _ALL_BINS)
    full = np.tril(triangle) + np.tril(triangle, -1).T
    return described(pd.DataFrame(full[:_TT_BINS, :_TT_BINS]), "planck2018_tt_covariance")


def planck2018_tt_windows() -> pd.DataFrame:
    """Bin weights: ``windows.to_numpy() @ cl[windows.columns]`` gives the band powers of a theory C_l."""
    import numpy as np
    import pandas as pd

    first, last = _bin_edges()
    weights = _numbers("bweight.dat")
    windows = np.zeros((_TT_BINS, int(last.max()) + 1))
    for row, lo, hi in zip(windows, first, last, strict=True):
        row[lo : hi + 1] = weights[lo - _FIRST_ELL : hi + 1 - _FIRST_ELL]
    frame = pd.DataFrame(windows[:, _FIRST_ELL:], columns=range(_FIRST_ELL, windows.shape[1]))
    return described(frame, "planck2018_tt_windows")
