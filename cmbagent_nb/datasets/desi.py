"""Loads the baryon acoustic oscillations of the Dark Energy Spectroscopic Instrument, second data release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmbagent_nb.datasets.catalogue import data_file, described

if TYPE_CHECKING:
    import pandas as pd

_FOLDER = "desi_dr2_bao"
_STEM = "desi_dr2_gaussian_bao_ALL_GCcomb"


def desi_dr2_bao() -> pd.DataFrame:
    """The 13 distances over the sound horizon: ``z, quantity, value, sigma``.

    >>> desi_dr2_bao()["quantity"].value_counts().to_dict()
    {'DM_over_rs': 6, 'DH_over_rs': 6, 'DV_over_rs': 1}
    """
    import numpy as np
    import pandas as pd

    path = data_file(_FOLDER, f"{_STEM}_mean.txt")
    frame = pd.read_csv(path, sep=r"\s+", comment="#", names=["z", "value", "quantity"])
    frame["sigma"] = np.sqrt(np.diag(desi_dr2_bao_covariance().to_numpy()))
    return described(frame[["z", "quantity", "value", "sigma"]], "desi_dr2_bao")


def desi_dr2_bao_covariance() -> pd.DataFrame:
    """The 13 x 13 covariance of :func:`desi_dr2_bao`."""
    import numpy as np
    import pandas as pd

    matrix = np.loadtxt(data_file(_FOLDER, f"{_STEM}_cov.txt"))
    return described(pd.DataFrame(matrix), "desi_dr2_bao_covariance")
