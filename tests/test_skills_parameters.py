"""Which literals become parameters, and which do not."""

from __future__ import annotations

from typing import Any

import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.parameters import StepSource, find_parameters
from cmbagent_nb.skills.model import Parameter


def found(code: str, task: str = "", **options: Any) -> dict[str, Any]:
    result = find_parameters([StepSource("step_1", code, **options)], task)
    return {item.name: item.default for item in result.parameters}


def runs(code: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run code with its parameters set, as the notebook does."""
    names: dict[str, Any] = dict(parameters)
    exec(compile(code, "cell", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("LMAX = 2508\nH0 = 67.36\nprint(LMAX, H0)", {"LMAX": 2508, "H0": 67.36}),
        ("seed = 0\nimport numpy as np\nrng = np.random.default_rng(seed)", {"seed": 0}),
        ("import numpy as np\nrng = np.random.default_rng(0)", {"seed": 0}),
        ("n_bins: int = 30\nprint(n_bins)", {"n_bins": 30}),
        ("USE_LOG = True\nprint(USE_LOG)", {"USE_LOG": True}),
        ("EDGES = [0.1, 0.5, 1.0]\nprint(EDGES)", {"EDGES": [0.1, 0.5, 1.0]}),
        ("LIMITS = (0.1, 0.5)\nprint(LIMITS)", {"LIMITS": [0.1, 0.5]}),
        ("w0 = -1.0\nprint(w0)", {"w0": -1.0}),
        ("import camb\np = camb.set_params(H0=67.36, lmax=2508, omk=0)", {"H0": 67.36, "lmax": 2508}),
        ("p = dict(H0=67.36, omega_m=0.3)\nprint(p)", {"H0": 67.36, "omega_m": 0.3}),
        ("cosmology = {'H0': 67.36, 'ns': 0.965}\nprint(cosmology)", {"H0": 67.36, "ns": 0.965}),
        ("import numpy as np\nc = np.polyfit(x, y, 3)", {"degree": 3}),
        ("def f(x, order=4):\n    return x * order\nprint(f(1))", {"order": 4}),
        ("def main():\n    n_steps = 50\n    print(n_steps)\nmain()", {"n_steps": 50}),
        ("if __name__ == '__main__':\n    tolerance = 1e-4\n    print(tolerance)", {"tolerance": 1e-4}),
    ],
)
def test_what_a_user_would_vary_is_found(code: str, expected: dict[str, Any]) -> None:
    """Constants with names, knobs of calls, seeds, options of settings."""
    assert found(code) == expected


@pytest.mark.parametrize(
    "code",
    [
        "FIGSIZE = (8, 5)\nDPI = 150\nLINE_COLOR = 'r'\nprint(FIGSIZE, DPI, LINE_COLOR)",
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(8, 5), dpi=150)\nplt.plot(x, y, lw=2, alpha=0.5)",
        "fig.savefig('plots/a.png', dpi=200)\nax.set_xlim(0, 2500)",
        "import numpy as np\nx = np.zeros((100, 3))\nx = np.linspace(0, 10, 200).reshape(20, 10)",
        "import pandas as pd\ndf = pd.read_csv(path, encoding='utf-8', sep=';', index_col=0)\ndf.mean(axis=1)",
        "COLUMN = 'temperature'\nprint(df[COLUMN])",
        "total = 0\ncount = 0.0\nfor x in y:\n    total += x",
        "C_KMS = 299792.458\nPI = 3.14159\nMPC_TO_KM = 3.0857e19\nprint(C_KMS, PI, MPC_TO_KM)",
        "OUTPUT_DIR = 'data'\nimport os\nos.makedirs(OUTPUT_DIR, exist_ok=True)",
        "TITLE = 'A spectrum'\nprint(TITLE)",
        "VERBOSE = True\nDEBUG = False\nprint(VERBOSE, DEBUG)",
        "LMAX = 2508\nLMAX = len(x)\nprint(LMAX)",
        "UNUSED = 12\n",
        "first = x[0]\nlast = x[-1]\npart = x[2:5]",
        "import json\njson.dump(x, f, indent=2)",
        "width = 0.35\nax.bar(x, y, width)\nax.bar(x + 3, y, width)",
        "if __name__ == '__main__':\n    print(round(x, 3))",
        "BAR_HEIGHT = 7\nax.barh(x, y, BAR_HEIGHT)",
        "LABELS = ['a', 'b']\nprint(LABELS)",
    ],
)
def test_what_only_draws_indexes_or_names_is_left_alone(code: str) -> None:
    """No parameter is better than a silly one."""
    result = find_parameters([StepSource("step_1", code)])
    assert result.parameters == []
    assert result.codes == [code]


def test_the_task_decides_about_comparisons_and_texts() -> None:
    """A limit or a word that the task names becomes a parameter; the same literals without it do not."""
    code = 'import pandas as pd\nx = df[df["mass"] > 4200]\ny = df[df["species"] == "Adelie"]\n'
    assert found(code) == {}
    task = "Keep birds with a mass above 4200 g and of the species Adelie."
    assert found(code, task) == {"mass_min": 4200, "species": "Adelie"}


@pytest.mark.parametrize(
    ("code", "task", "expected"),
    [
        ("P_MIN, P_MAX = 0.2, 10.0\nprint(P_MIN, P_MAX)", "", {"P_MIN": 0.2, "P_MAX": 10.0}),
        ('ALTERNATIVE = "two-sided"\nprint(ALTERNATIVE)', "", {"ALTERNATIVE": "two-sided"}),
        ("LEVELS = ['ERROR', 'WARN']\nprint(LEVELS)", "Count ERROR and WARN.", {"LEVELS": ["ERROR", "WARN"]}),
        ("envelope = True\nif envelope:\n    print(1)", "", {"envelope": True}),
        ("OFFSET = -12.5\nprint(OFFSET + 1)", "", {"OFFSET": -12.5}),
        ("class M:\n    def __init__(self, rate=0.1):\n        self.rate = rate\nM()", "", {"rate": 0.1}),
        ("fit(x, p0=[1000, 10])", "", {"p0": [1000, 10]}),
        ("settings = {'n': 5, 'plot': {'bins': 30}}\nprint(settings)", "", {"n": 5, "plot_bins": 30}),
        ("p.add_argument('--fast', action='store_true')", "", {"fast": False}),
        ("s.resample('MS').mean()", "", {"freq": "MS"}),
        ("d = d[d.date >= '2001-05-01']", "", {"date": "2001-05-01"}),
        ("clip = 3 * sigma", "Cut at 3 sigma.", {"n_sigma": 3}),
        ("z = np.array([0.1, 0.5, 2.0])", "At z = 0.1, 0.5 and 2.0.", {"z_value": [0.1, 0.5, 2.0]}),
        ("for z in [0.1, 0.5]:\n    print(z)", "At z = 0.1 and 0.5.", {"z_values": [0.1, 0.5]}),
        ("def f(test_fraction=0.25):\n    return test_fraction\nf()", "Hold 25 % out.", {"test_fraction": 0.25}),
    ],
)
def test_choices_wherever_they_stand(code: str, task: str, expected: dict[str, Any]) -> None:
    """Pairs, words, switches, settings within settings, what the task lists, counts or gives as a share."""
    assert found(code, task) == expected
    result = find_parameters([StepSource("step_1", code)], task)
    assert result.codes[0] != code


def test_a_number_that_the_task_introduces_by_a_word() -> None:
    """A bare number in a call takes its name from the task."""
    assert found("run_chain(model, 5000)", "Run the chain with walkers = 5000.") == {"walkers": 5000}
    assert found("x = np.zeros(5000)", "Run the chain with walkers = 5000.") == {}


def test_input_files_and_named_outputs() -> None:
    """A file that is read or made is a parameter wherever it is used; what only says its name is none."""
    code = (
        "from pathlib import Path\nimport pandas as pd\nOUT = 'plots/a.png'\n"
        "a = pd.read_csv('input/a.csv')\nb = pd.read_csv(Path('input') / 'b.csv')\n"
        "plt.savefig(OUT)\ndf.to_csv('data/x.csv')\ndf.to_csv(Path('data') / 'y.csv')\nprint('data/z.csv')\n"
    )
    inputs = {"input/a.csv": "input/a.csv", "input/b.csv": "input/b.csv"}
    outputs = frozenset({"plots/a.png", "data/x.csv", "data/y.csv", "data/z.csv"})
    expected = {"a_file": "input/a.csv", "b_file": "b.csv", "OUT": "plots/a.png"}
    expected |= {"x_file": "data/x.csv", "y_file": "y.csv"}
    assert found(code, inputs=inputs, outputs=outputs) == expected


def test_steps_share_a_parameter_of_one_value_and_part_at_another() -> None:
    """One name and value over two steps is one parameter; the third step's other value has its own."""
    codes = ["LMAX = 2508\na = LMAX\n", "lmax = 2508\nb = lmax\n", "LMAX = 1000\nc = LMAX\n"]
    steps = [StepSource(f"step_{number}", code) for number, code in enumerate(codes, start=1)]
    result = find_parameters(steps)
    assert {item.name: (item.default, item.steps) for item in result.parameters} == {
        "LMAX": (2508, ("step_1", "step_2")),
        "LMAX_step_3": (1000, ("step_3",)),
    }
    names = runs("\n".join(result.codes), {"LMAX": 1500, "LMAX_step_3": 7})
    assert (names["a"], names["b"], names["c"]) == (1500, 1500, 7)


def test_an_output_that_is_named_is_read_by_its_name() -> None:
    """The step that reads a file follows the parameter that names it."""
    steps = [
        StepSource("step_1", "RESULT = 'data/fit.json'\nopen(RESULT, 'w')\n", outputs=frozenset({"data/fit.json"})),
        StepSource("step_2", "open('data/fit.json')\n"),
    ]
    assert find_parameters(steps).codes[1] == "open(RESULT)\n"


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    seed = 3\n    import numpy as np\n    return np.random.default_rng(42), seed\nf()",
        "max_iter = 5\ndef g(max_iter=7):\n    return max_iter\nr = (max_iter, g())",
        "def main():\n    LIMITS = (1.5, 2.5)\n    assert isinstance(LIMITS, tuple)\n    return LIMITS\nr = main()",
        "import random\nrandom.seed(5)\nseed = random.random()",
        "range_ = 5\nfilter = 12\nprint(range_, filter)",
        "class Config:\n    n_steps: int = 9\n    other = n_steps\nr = Config.other",
        "H0 = 70.0\ndef f():\n    global H0\n    H0 = 71.0\nf()\nr = H0",
        "n_steps = 5\ndel n_steps\nn_steps = [1]\nr = n_steps",
        "threshold = 2.5\nr = [threshold for threshold in (1, 2)] + [threshold]",
    ],
)
def test_code_means_the_same_with_the_defaults(code: str) -> None:
    """Names that mean something else nearby are not used; what is rewritten computes what it computed."""
    result = find_parameters([StepSource("step_1", code)])
    before = runs(code, {})
    after = runs(result.codes[0], {item.name: item.default for item in result.parameters})
    for name in {"r", "seed", "H0", "n_steps"} & set(before):
        assert before[name] == after[name]


def test_help_and_units_come_from_comments() -> None:
    """A comment beside or above, an option's help, or the well-known meaning of a name."""
    code = (
        "H0 = 70.0  # expansion rate [km/s/Mpc]\n\n# how many bins\nN_BINS = 30\n\n"
        "# Cosmology\nOMBH2 = 0.022\nTAU = 0.05\nprint(H0, N_BINS, OMBH2, TAU)\n"
    )
    by_name = {item.name: item for item in find_parameters([StepSource("step_1", code)]).parameters}
    assert (by_name["H0"].help, by_name["H0"].unit) == ("expansion rate [km/s/Mpc]", "km/s/Mpc")
    assert by_name["N_BINS"].help == "how many bins"
    assert by_name["OMBH2"].help == "physical density of baryons"
    assert by_name["TAU"].help == "optical depth to reionisation"


def test_code_that_is_not_python_is_refused() -> None:
    """The step is named."""
    with pytest.raises(SkillError, match="step_4"):
        find_parameters([StepSource("step_4", "print('a'")])


@pytest.mark.parametrize(
    ("kind", "default", "given", "expected"),
    [
        ("int", 5, "7", 7),
        ("int", 5, 7.0, 7),
        ("float", 0.5, 2, 2.0),
        ("float", 0.5, "1e-3", 0.001),
        ("bool", True, "false", False),
        ("list", [1.0], (1, 2), [1.0, 2.0]),
        ("list", [1], "1,2,3", [1, 2, 3]),
        ("str", "a", "b", "b"),
    ],
)
def test_values_are_taken_as_their_type(kind: str, default: Any, given: Any, expected: Any) -> None:
    """Whole numbers serve as floats, and texts of a command line as what they say."""
    value = Parameter("p", kind, default).check(given)
    assert value == expected
    assert type(value) is type(expected)


def test_what_the_code_takes_and_what_was_seen() -> None:
    """The choices of an option are those of the parameter; the run has shown one value."""
    code = "p.add_argument('--method', choices=['euler', 'leapfrog'], default='leapfrog')\nN_STEPS = 5\nprint(N_STEPS)"
    by_name = {item.name: item for item in find_parameters([StepSource("step_1", code)]).parameters}
    assert by_name["method"].choices == ("euler", "leapfrog")
    assert (by_name["method"].seen, by_name["N_STEPS"].seen) == (("leapfrog",), (5, 5))
    assert by_name["method"].check("euler") == "euler"
    with pytest.raises(SkillError, match="one of 'euler', 'leapfrog'"):
        by_name["method"].check("rk4")
    assert Parameter.from_dict(by_name["method"].as_dict()) == by_name["method"]


@pytest.mark.parametrize(
    ("kind", "default", "given"),
    [
        ("int", 5, 7.5),
        ("int", 5, True),
        ("int", 5, "many"),
        ("float", 0.5, "x"),
        ("float", 0.5, None),
        ("float", 0.5, float("nan")),
        ("bool", True, 1),
        ("list", [1.0], 3),
        ("list", [1.0], ["a"]),
        ("str", "a", 3),
    ],
)
def test_values_of_another_type_are_refused(kind: str, default: Any, given: Any) -> None:
    """The error names the parameter and shows how to give it."""
    with pytest.raises(SkillError, match="Parameter p "):
        Parameter("p", kind, default).check(given)
