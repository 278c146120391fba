"""Loads real, published measurements as tables with units and citations.

Every loader gives a pandas object whose ``attrs`` carry the units of its columns, a description and
the paper to cite. The files come with the package: nothing is downloaded.

>>> from cmbagent_nb import datasets
>>> tt = datasets.planck2018_tt()
>>> len(tt), tt.attrs["units"]["cl"]
(215, 'muK^2')
"""

from __future__ import annotations

from cmbagent_nb.datasets.catalogue import list_datasets
from cmbagent_nb.datasets.desi import desi_dr2_bao, desi_dr2_bao_covariance
from cmbagent_nb.datasets.expansion import cosmic_chronometers, pantheon_plus, pantheon_plus_hubble
from cmbagent_nb.datasets.general import mauna_loa_co2, palmer_penguins
from cmbagent_nb.datasets.planck import planck2018_tt, planck2018_tt_covariance, planck2018_tt_windows

__all__ = [
    "cosmic_chronometers",
    "desi_dr2_bao",
    "desi_dr2_bao_covariance",
    "list_datasets",
    "mauna_loa_co2",
    "palmer_penguins",
    "pantheon_plus",
    "pantheon_plus_hubble",
    "planck2018_tt",
    "planck2018_tt_covariance",
    "planck2018_tt_windows",
]
