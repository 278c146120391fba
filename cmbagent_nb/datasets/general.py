"""Loads data sets that need no cosmology."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmbagent_nb.datasets.catalogue import data_file, described

if TYPE_CHECKING:
    import pandas as pd


def mauna_loa_co2() -> pd.DataFrame:
    """Weekly atmospheric CO2 at Mauna Loa, 1958 to 2001: ``date, co2`` (ppmv, gaps are NaN).

    >>> co2 = mauna_loa_co2()
    >>> len(co2), int(co2["co2"].isna().sum())
    (2284, 59)
    """
    import pandas as pd

    frame = pd.read_csv(data_file("mauna_loa_co2", "co2.csv"))
    frame["date"] = pd.to_datetime(frame["date"].astype(str), format="%Y%m%d")
    return described(frame, "mauna_loa_co2")


def palmer_penguins() -> pd.DataFrame:
    """Sizes of 344 penguins of three species, on three islands.

    >>> palmer_penguins()["species"].nunique()
    3
    """
    import pandas as pd

    return described(pd.read_csv(data_file("palmer_penguins", "penguins.csv")), "palmer_penguins")
