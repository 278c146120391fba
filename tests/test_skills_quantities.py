"""Which numbers are parameters, which are constants of nature, and which of them are whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.parameters import StepSource, find_parameters
from cmbagent_nb.skills.extracting.wholes import Wholes
from cmbagent_nb.skills.model import Parameter

QUANTITIES = [
    "M200 = 2e14  # halo mass [Msun]", "c200 = 5.0", "dm21 = 7.5e-5  # eV^2", "theta23 = 0.78  # mixing angle [rad]",
    "eps = 0.05  # softening [kpc]", "H0 = 67.4", "Omega_m = 0.315", "sigma8 = 0.811", "As = 2.1e-9", "ns = 0.965",
    "tau = 0.054", "z_max = 3", "T = 1  # temperature [K]", "omk = 0", "c = 5.0  # concentration [dimensionless]",
    "width = 0.5  # slit width [arcsec]", "h = 0.7  # in km/s/Mpc", "offset = 0.3  # zero point [mag]", "R2D2 = 4.5",
    "samples_per_peak = 10",
    "MIN_DAYS = 20", "bins_per_decade = 12", "G = 0.5  # gain [dB]", "m_e = 3.5  # [eV]", "k = 0.2  # 1/Mpc",
]  # fmt: skip
CONSTANTS = [
    "G = 6.674e-11  # m^3/kg/s^2", "G = 4.30091e-3  # pc (km/s)^2 / Msun", "c = 299792.458  # km/s", "c = 3e8  # m/s",
    "k_B = 1.380649e-23", "kB = 8.617e-5  # eV/K", "h = 6.626e-34", "hbar = 1.0546e-34  # J s", "N_A = 6.022e23",
    "sigma_SB = 5.670374419e-8", "M_sun = 1.989e30  # kg", "km_per_mpc = 3.0857e19", "DEG2RAD = 0.0174533",
    "m_p = 1.6726e-27  # kg", "sec_per_year = 3.156e7", "g = 9.81  # m/s^2", "Mpc = 3.0857e22  # m", "e = 1.602e-19",
]  # fmt: skip


def found(line: str, task: str = "") -> list[Parameter]:
    name = line.partition(" ")[0]
    return find_parameters(
        [StepSource("step_1", f"{line}\nresult = 2.0 * {name} + 1\nprint(result)\n")], task
    ).parameters


@pytest.mark.parametrize("line", QUANTITIES)
def test_a_quantity_is_a_parameter(line: str) -> None:
    """Whatever a list of words says of its name."""
    assert [item.name for item in found(line)] == [line.partition(" ")[0]]


@pytest.mark.parametrize("line", CONSTANTS)
def test_a_constant_of_nature_is_none(line: str) -> None:
    """Also where a comment gives its unit, or the task names it."""
    assert found(line) == []
    assert found(line, f"Use {line.partition('  #')[0]}") == []


@pytest.mark.parametrize(
    ("line", "task"),
    [
        ("eps = 0.05", "Use a softening eps = 0.05"),
        ("tiny = 0.3", "with tiny equal to 0.3"),
        ("c = 7.5", "take c = 7.5"),
        ("r = 0", "with r = 0"),
        ("count = 4.5", "a count of 4.5"),
        ("offset = -0.2", "and an offset of -0.2"),
        ("height = 1.5", "at height 1.5"),
        ("h = 0.7", "for h = 0.7"),
    ],
)
def test_what_the_task_names_beats_a_list_of_words(line: str, task: str) -> None:
    """Its name in the task is enough."""
    assert [item.name for item in found(line, task)] == [line.partition(" ")[0]]


WHOLE = [
    "x = range(n)", "x = np.zeros(n)", "x = np.zeros((n, 3))", "x = y[:n]", "x = y[n]", "x = rng.normal(size=n)",
    "x = np.linspace(0, 1, n)", "x = [0] * n", "x = '-' * n", "x = y[n - 1]", "x = np.linspace(0, 1, 2 * n + 1)",
    "def f(a):\n    return np.ones(a)\nx = f(n)", "x = np.polyfit(u, v, n)", "m = n\nx = y[m:]",
    "def f(a, b=1):\n    return range(b)\nx = f(1, b=n)", "x = fit(bins=n)", "x = 1 << n",
    "s = {'a': n}\nfor i in range(s['a']):\n    i", "s = dict(a=n)\nx = y[: s.get('a')]",
    "class C:\n    a: int = n\nx = [0] * C().a",
    "class C:\n    def __init__(self, a):\n        self.a = a\nx = range(C(a=n).a)",
    "o.a = n\nx = np.zeros(o.a)",
    "for i in range(1, n + 1):\n    i", "x = [y for y in z if len(found) < n]",
    "while n - 1 > len(x):\n    x.append(1)",
]  # fmt: skip
FLOAT = [
    "x = np.exp(-E / n)", "x = n * 2.5", "x = f(omk=n)", "x = np.sqrt(n)", "x = y > n", "x = y * n", "x = n ** 0.5",
    "def f(a):\n    return a / 2\nx = f(n)", "x = camb.set_cosmology(omk=n)", "x = y + n", "x = {'r': n}",
    "x = len(y) > n * z",
    "s = {'a': n}\nx = y * s['a']", "class C:\n    a: float = n\nx = y / C().a",
]  # fmt: skip


@pytest.mark.parametrize(("code", "whole"), [*((code, True) for code in WHOLE), *((code, False) for code in FLOAT)])
def test_the_type_is_that_of_the_use(code: str, whole: bool) -> None:
    """A name without a meaning of its own."""
    code = re.sub(r"\bn\b", "Q", code)
    assert Wholes([code]).is_whole("Q") is whole


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("3.0", 3), ("2e3", 2000), (3.0, 3), ("-1e1", -10), ("1_000", 1000)]
)
def test_whole_numbers_as_people_write_them(text: object, value: int) -> None:
    """Each is that number, and an int."""
    found = Parameter("n", "int", 1).check(text)
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize("text", ["2.5", 2.5, "1e-1", "1e99999", "nan", "inf", "", "three", True])
def test_other_numbers_are_no_whole_ones(text: object) -> None:
    """Refused in a line."""
    with pytest.raises(SkillError, match="is a whole number") as failure:
        Parameter("n", "int", 1).check(text)
    assert "\n" not in str(failure.value)


@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_survives_every_way_to_write_it(number: int) -> None:
    """As an int, as a float, in exponents."""
    parameter = Parameter("n", "int", 1)
    for text in (number, float(number), str(number), f"{number}.0", f"{number:_}", f"{number / 10:.1f}e1"):
        assert parameter.check(text) == number


def test_a_quantity_written_as_a_whole_number_stays_so() -> None:
    """``T = 1`` takes 1.5, and 2 is 2: the code may write it into a name."""
    parameter = Parameter("T", "float", 1)
    assert [repr(parameter.check(value)) for value in (1, "2", "1.5", 1.5, "3.0")] == ["1", "2", "1.5", "1.5", "3.0"]
