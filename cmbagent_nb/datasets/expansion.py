"""Loads two more probes of the expansion of the Universe: supernovae and the ages of galaxies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmbagent_nb.datasets.catalogue import data_file, described

if TYPE_CHECKING:
    import pandas as pd


def pantheon_plus() -> pd.DataFrame:
    """The 1701 supernova light curves of Pantheon+SH0ES, with the columns of the release.

    >>> pantheon_plus().shape
    (1701, 47)
    """
    import pandas as pd

    frame = pd.read_csv(data_file("pantheon_plus", "Pantheon+SH0ES.dat.gz"), sep=r"\s+", dtype={"CID": str})
    return described(frame, "pantheon_plus")


def pantheon_plus_hubble() -> pd.DataFrame:
    """The four columns of :func:`pantheon_plus` that a Hubble diagram needs: redshifts, magnitude and its error.

    >>> pantheon_plus_hubble().columns.tolist()
    ['zHD', 'zHEL', 'm_b_corr', 'm_b_corr_err_DIAG']
    """
    frame = pantheon_plus()
    return described(frame[["zHD", "zHEL", "m_b_corr", "m_b_corr_err_DIAG"]].copy(), "pantheon_plus_hubble")


def cosmic_chronometers() -> pd.DataFrame:
    """The 32 expansion rates of passive galaxies: ``z, hubble, sigma, correlated``.

    >>> int(cosmic_chronometers()["correlated"].sum())
    15
    """
    import pandas as pd

    path = data_file("cosmic_chronometers", "CC_32_Favale2023_data.txt")
    frame = pd.read_csv(path, sep=r"\s+", comment="#", names=["z", "hubble", "sigma", "correlated"])
    return described(frame.astype({"correlated": bool}), "cosmic_chronometers")
