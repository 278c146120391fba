"""Describes each data set: its content, citation and columns.

The measurements belong to the collaborations that made them. Their citation travels with every
table, in ``frame.attrs["citation"]``, and is kept when the table is written to Parquet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Entry:
    """One data set: what a reader of the table must know before using it."""

    title: str
    description: str
    citation: str
    licence: str
    units: dict[str, str]


_PLANCK = "Planck Collaboration V, A&A 641 (2020) A5, arXiv:1907.12875"
_DESI = "DESI Collaboration, arXiv:2503.14738 (2025)"
_PANTHEON = "Brout et al., ApJ 938 (2022) 110, arXiv:2202.04077; Scolnic et al., ApJ 938 (2022) 113, arXiv:2112.03863"
_RELEASED = "public data release; cite the paper"

CATALOGUE: dict[str, Entry] = {
    "planck2018_tt": Entry(
        title="Planck 2018 TT band powers (plik_lite)",
        description=(
            "215 binned temperature band powers of the Planck 2018 (PR3) foreground-marginalised plik_lite "
            "likelihood, multipoles 30 to 2508. cl is C_l without the factor l(l+1)/2pi; sigma is the square root "
            "of the diagonal of the covariance. ell_min and ell_max are inclusive."
        ),
        citation=_PLANCK,
        licence=_RELEASED,
        units={"ell": "multipole", "ell_min": "multipole", "ell_max": "multipole", "cl": "muK^2", "sigma": "muK^2"},
    ),
    "planck2018_tt_covariance": Entry(
        title="Covariance of the Planck 2018 TT band powers",
        description=(
            "The 215 x 215 TT block of the plik_lite covariance, rows and columns in the order of planck2018_tt(). "
            "Foregrounds and nuisance parameters are marginalised over."
        ),
        citation=_PLANCK,
        licence=_RELEASED,
        units={"(all)": "muK^4"},
    ),
    "planck2018_tt_windows": Entry(
        title="Bin windows of the Planck 2018 TT band powers",
        description=(
            "Weights w[b, l] that turn a theory spectrum into band powers: C_b = sum_l w[b, l] C_l. "
            "Rows are the bins of planck2018_tt(), columns the multipoles 30 to 2508; each row sums to 1."
        ),
        citation=_PLANCK,
        licence=_RELEASED,
        units={"(all)": "dimensionless"},
    ),
    "desi_dr2_bao": Entry(
        title="DESI DR2 BAO distances",
        description=(
            "13 baryon acoustic oscillation measurements from galaxies, quasars and the Lyman-alpha forest. "
            "quantity is DV_over_rs, DM_over_rs or DH_over_rs: the volume-averaged, transverse comoving or Hubble "
            "distance at redshift z, over the sound horizon at the drag epoch. sigma is the square root of the "
            "diagonal of the covariance."
        ),
        citation=_DESI,
        licence=_RELEASED,
        units={"z": "redshift", "quantity": "name", "value": "dimensionless", "sigma": "dimensionless"},
    ),
    "desi_dr2_bao_covariance": Entry(
        title="Covariance of the DESI DR2 BAO distances",
        description="The 13 x 13 covariance, rows and columns in the order of desi_dr2_bao().",
        citation=_DESI,
        licence=_RELEASED,
        units={"(all)": "dimensionless"},
    ),
    "pantheon_plus": Entry(
        title="Pantheon+SH0ES type Ia supernovae",
        description=(
            "1701 light curves of 1550 supernovae with the column names of the release, without the covariance: "
            "zHD is the redshift in the Hubble diagram (CMB frame, peculiar velocities corrected), zHEL the "
            "heliocentric redshift, m_b_corr the standardised apparent magnitude, MU_SH0ES the distance modulus."
        ),
        citation=_PANTHEON,
        licence=_RELEASED,
        units={
            "zHD": "redshift",
            "zHDERR": "redshift",
            "zCMB": "redshift",
            "zHEL": "redshift",
            "m_b_corr": "mag",
            "m_b_corr_err_DIAG": "mag",
            "MU_SH0ES": "mag",
            "MU_SH0ES_ERR_DIAG": "mag",
            "CEPH_DIST": "mag",
            "RA": "deg",
            "DEC": "deg",
            "VPEC": "km/s",
            "VPECERR": "km/s",
            "HOST_LOGMASS": "log10(Msun)",
            "PKMJD": "MJD",
        },
    ),
    "pantheon_plus_hubble": Entry(
        title="Pantheon+SH0ES, the columns of the Hubble diagram",
        description=(
            "Redshifts, standardised magnitude and the square root of its covariance's diagonal for the 1701 light "
            "curves of pantheon_plus(), with the same names; the correlations between them are not in the table."
        ),
        citation=_PANTHEON,
        licence=_RELEASED,
        units={"zHD": "redshift", "zHEL": "redshift", "m_b_corr": "mag", "m_b_corr_err_DIAG": "mag"},
    ),
    "cosmic_chronometers": Entry(
        title="Cosmic chronometers, H(z)",
        description=(
            "32 expansion rates from the differential ages of passive galaxies. correlated marks the 15 points of "
            "Moresco et al. whose errors share systematics, which sigma does not show."
        ),
        citation=(
            "Compilation of Favale, Gomez-Valent & Migliaccio, MNRAS 523 (2023) 3406, arXiv:2301.09591, "
            "and the references in it"
        ),
        licence=_RELEASED,
        units={"z": "redshift", "hubble": "km/s/Mpc", "sigma": "km/s/Mpc", "correlated": "bool"},
    ),
    "mauna_loa_co2": Entry(
        title="Weekly atmospheric CO2 at Mauna Loa, 1958 to 2001",
        description=(
            "Weekly averages of the in-situ record at Mauna Loa Observatory, Hawaii. date is the sample date; "
            "weeks without a measurement are NaN."
        ),
        citation=(
            "Keeling & Whorf, Atmospheric CO2 concentrations derived from flask air samples at sites in the SIO "
            "network, in: Trends, Carbon Dioxide Information Analysis Center (2004)"
        ),
        licence="public domain",
        units={"date": "day", "co2": "ppmv"},
    ),
    "palmer_penguins": Entry(
        title="Penguins of the Palmer Archipelago",
        description="Size measurements of 344 adult penguins of three species on three islands, 2007 to 2009.",
        citation="Gorman, Williams & Fraser, PLoS ONE 9 (2014) e90081; Horst, Hill & Gorman, palmerpenguins (2020)",
        licence="CC0",
        units={
            "species": "name",
            "island": "name",
            "bill_length_mm": "mm",
            "bill_depth_mm": "mm",
            "flipper_length_mm": "mm",
            "body_mass_g": "g",
            "sex": "name",
            "year": "year",
        },
    ),
}


def data_file(*parts: str) -> Path:
    """The path of a shipped data file."""
    return _DATA.joinpath(*parts)


def described(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Write what the catalogue says about ``name`` into ``frame.attrs`` and return the frame."""
    entry = CATALOGUE[name]
    frame.attrs = {
        "name": name,
        "title": entry.title,
        "description": entry.description,
        "citation": entry.citation,
        "licence": entry.licence,
        "units": dict(entry.units),
    }
    return frame


def list_datasets() -> pd.DataFrame:
    """List the data sets: one row for each loader of ``cmbagent_nb.datasets``, with its title and citation."""
    import pandas as pd

    rows = [(name, e.title, e.licence, e.citation) for name, e in CATALOGUE.items()]
    return pd.DataFrame(rows, columns=["name", "title", "licence", "citation"]).set_index("name")
