"""The shipped data sets are the published ones, unharmed, and say what they hold."""

from __future__ import annotations

import gzip
import hashlib
import inspect

import numpy as np
import pandas as pd
import pytest

from cmbagent_nb import datasets
from cmbagent_nb.datasets.catalogue import CATALOGUE, data_file

LOADERS = {name: getattr(datasets, name) for name in datasets.__all__ if name != "list_datasets"}

#: sha256 of the files as their collaborations' packages hold them, before they were compressed here.
ORIGINALS = {
    "planck2018_plik_lite/c_matrix_plik_v22.dat.gz": "ad90378c50bd67841764179c90ae6711fa4317c649966ab2b0712143b31e0a32",
    "pantheon_plus/Pantheon+SH0ES.dat.gz": "1cb0fc379ef066afdc2ffd1857681cc478024570d8a3eba284fb645775198cf8",
}


def test_every_file_is_the_one_that_was_shipped() -> None:
    """Each data file has the checksum in SHA256SUMS, and none is there without one."""
    listed = dict(reversed(line.split(maxsplit=1)) for line in data_file("SHA256SUMS").read_text().splitlines())
    folder = data_file()
    found = {
        f"./{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert found == listed


@pytest.mark.parametrize("name", ORIGINALS)
def test_compressed_files_unpack_to_the_originals(name: str) -> None:
    content = gzip.decompress(data_file(*name.split("/")).read_bytes())
    assert hashlib.sha256(content).hexdigest() == ORIGINALS[name]


def test_every_loader_is_in_the_catalogue() -> None:
    assert set(LOADERS) == set(CATALOGUE)
    assert list(datasets.list_datasets().index) == list(CATALOGUE)


@pytest.mark.parametrize("name", LOADERS)
def test_a_table_carries_units_and_citation_through_parquet(name: str, tmp_path) -> None:
    frame = LOADERS[name]()
    assert frame.attrs["name"] == name
    assert frame.attrs["citation"] and frame.attrs["description"] and frame.attrs["licence"]
    units = frame.attrs["units"]
    if set(units) != {"(all)"}:
        assert set(units) <= set(frame.columns)
    assert inspect.getdoc(LOADERS[name])
    frame.columns = frame.columns.astype(str)
    frame.to_parquet(tmp_path / "frame.parquet")
    assert pd.read_parquet(tmp_path / "frame.parquet").attrs == frame.attrs


def test_a_table_can_be_changed_without_changing_the_next_one() -> None:
    first = datasets.desi_dr2_bao()
    first.loc[0, "value"] = 0.0
    first.attrs["units"]["z"] = "changed"
    second = datasets.desi_dr2_bao()
    assert second.loc[0, "value"] == pytest.approx(7.941676)
    assert second.attrs["units"]["z"] == "redshift"


def test_planck_tables_fit_together() -> None:
    """Errors are the diagonal of the covariance, bins do not overlap, windows are normalised within their bins."""
    tt, windows = datasets.planck2018_tt(), datasets.planck2018_tt_windows()
    covariance = datasets.planck2018_tt_covariance().to_numpy()
    assert len(tt) == 215 and windows.shape == (215, 2479) and covariance.shape == (215, 215)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), tt["sigma"], rtol=1e-9)
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    np.testing.assert_array_equal(tt["ell_min"].to_numpy()[1:], tt["ell_max"].to_numpy()[:-1] + 1)
    np.testing.assert_allclose(windows.sum(axis=1), 1, rtol=1e-12)
    for number in (0, 100, 214):
        used = windows.columns[windows.loc[number] != 0]
        assert (used.min(), used.max()) == (tt.loc[number, "ell_min"], tt.loc[number, "ell_max"])
    assert tt["ell"].between(tt["ell_min"], tt["ell_max"]).all()


def test_planck_first_peak_is_where_it_is() -> None:
    tt = datasets.planck2018_tt()
    power = tt["ell"] * (tt["ell"] + 1) * tt["cl"] / (2 * np.pi)
    peak = power[tt["ell"].between(150, 300)]
    assert 5500 < peak.max() < 6000
    assert 200 < tt.loc[peak.idxmax(), "ell"] < 240


def test_desi_covariance_belongs_to_the_distances() -> None:
    bao, covariance = datasets.desi_dr2_bao(), datasets.desi_dr2_bao_covariance().to_numpy()
    assert len(bao) == 13
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), bao["sigma"])
    for row in np.argwhere(np.triu(covariance, 1) != 0):
        assert bao["z"].iloc[row[0]] == bao["z"].iloc[row[1]], "only distances at one redshift are correlated"


def test_pantheon_gives_the_published_matter_density() -> None:
    """A flat LCDM fit of the shape alone, without the covariance, comes near the published 0.334 +- 0.018."""
    table = datasets.pantheon_plus().query("zHD > 0.01")
    assert len(table) == 1590
    z = table["zHD"].to_numpy()
    grid = np.linspace(0, z.max(), 4000)

    def chi2(omega_m: float) -> float:
        rate = 1 / np.sqrt(omega_m * (1 + grid) ** 3 + 1 - omega_m)
        distance = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(grid))])
        modulus = 5 * np.log10((1 + table["zHEL"]) * np.interp(z, grid, distance))
        residual = table["m_b_corr"] - modulus
        weight = 1 / table["m_b_corr_err_DIAG"] ** 2
        return float((weight * (residual - np.average(residual, weights=weight)) ** 2).sum())

    omega_m = np.linspace(0.25, 0.45, 41)
    best = omega_m[np.argmin([chi2(value) for value in omega_m])]
    assert best == pytest.approx(0.334, abs=0.035)


def test_chronometers_rise_with_redshift() -> None:
    table = datasets.cosmic_chronometers()
    assert len(table) == 32 and table["correlated"].dtype == bool
    assert np.polyfit(table["z"], table["hubble"], 1)[0] > 0


def test_co2_is_weekly() -> None:
    co2 = datasets.mauna_loa_co2()
    assert set(co2["date"].diff().dropna().dt.days) == {7}
    assert co2["co2"].min() > 310 and co2["co2"].max() < 375
