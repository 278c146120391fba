"""Numbers in a report come from files, or do not come at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmbagent_nb.agents.references import resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "data").mkdir(parents=True)
    (root / "my plots").mkdir()
    values = {
        "chi2": 207.61,
        "n": 215,
        "fit": {"v": [0.297, 101.54]},
        "a.b": 3,
        "text": "x_y [z]",
        "ok": True,
        "no": None,
    }
    (root / "data" / "fit.json").write_text(json.dumps(values))
    (root / "data" / "t.csv").write_text("z, h\n0.1,69\n0.2,70.5\n")
    (root / "my plots" / "x.json").write_text('{"v": 1}')
    (tmp_path / "secret.json").write_text('{"key": 1}')
    return root


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("{{ data/fit.json#chi2 | .1f }}", "[207.6](data/fit.json)"),
        ("{{data/fit.json#chi2}}", "[207.61](data/fit.json)"),
        ("{{ data/fit.json#n|d }}", "[215](data/fit.json)"),
        ("{{ data/fit.json#fit.v[1] | .2f }}", "[101.54](data/fit.json)"),
        ("{{ data/fit.json#fit.v[-1] | .2e }}", "[1.02e+02](data/fit.json)"),
        ("{{ data/fit.json#a.b }}", "[3](data/fit.json)"),
        ("{{ data/fit.json#text }}", r"[x\_y \[z\]](data/fit.json)"),
        ("{{ data/fit.json#ok }}", "[true](data/fit.json)"),
        ("{{ data/t.csv#h[1] | .1f }}", "[70.5](data/t.csv)"),
        ("{{ my plots/x.json#v }}", "[1](my%20plots/x.json)"),
    ],
)
def test_a_reference_becomes_a_linked_number(folder: Path, reference: str, text: str) -> None:
    resolved = resolve(f"It is {reference}.", folder)
    assert resolved.markdown == f"It is {text}."
    assert resolved.missing == [] and len(resolved.used) == 1


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("{{ data/none.json#x }}", "no such file"),
        ("{{ data/fit.json#nothing }}", "no such key; the keys are chi2, n"),
        ("{{ data/fit.json#fit.v[7] }}", "no such item"),
        ("{{ data/fit.json#fit }}", "not a single value"),
        ("{{ data/fit.json#text | .1f }}", "not a number"),
        ("{{ data/fit.json#chi2 | 999999999f }}", "not a format"),
        ("{{ data/fit.json#chi2 | d }}", "does not fit"),
        ("{{ data/t.csv#q[0] }}", "no such column; the columns are z, h"),
        ("{{ data/t.csv#h[9] }}", "2 rows"),
        ("{{ data/t.csv#h }}", "column[row]"),
        ("{{ ../secret.json#key }}", "outside"),
        ("{{ /etc/passwd#key }}", "outside"),
        ("{{ chi2 }}", "PATH#KEY"),
    ],
)
def test_what_is_not_there_is_listed(folder: Path, reference: str, reason: str) -> None:
    resolved = resolve(f"It is {reference}.", folder)
    assert resolved.markdown == f"It is {reference}."
    assert resolved.used == [] and len(resolved.missing) == 1
    assert reason in resolved.missing[0]


def test_links_out_of_the_folder_are_not_followed(folder: Path) -> None:
    (folder / "data" / "link.json").symlink_to(folder.parent / "secret.json")
    assert "outside" in resolve("{{ data/link.json#key }}", folder).missing[0]


def test_formulas_code_and_links_stay_whole(folder: Path) -> None:
    text = (
        "$\\chi^2 = {{ data/fit.json#chi2 | .1f }}$ and `n={{ data/fit.json#n }}`, [see {{ data/fit.json#n }}](a.md), "
        "$\\mathrm{{x}}$ {{\\rm d}}\n\n```\n{{ data/fit.json#n }}\n```\nafter {{ data/fit.json#n }}\n"
    )
    resolved = resolve(text, folder)
    assert resolved.markdown == (
        "$\\chi^2 = 207.6$ and `n=215`, [see 215](a.md), "
        "$\\mathrm{{x}}$ {{\\rm d}}\n\n```\n{{ data/fit.json#n }}\n```\nafter [215](data/fit.json)\n"
    )
    assert resolved.missing == []


def test_used_says_what_was_used(folder: Path) -> None:
    used = resolve("{{ data/fit.json#fit.v[0] | .1f }} {{ data/t.csv#z[0] }}", folder).used
    assert used == [
        {"path": "data/fit.json", "key": "fit.v[0]", "value": 0.297},
        {"path": "data/t.csv", "key": "z[0]", "value": 0.1},
    ]
