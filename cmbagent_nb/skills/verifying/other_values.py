"""Other values for a parameter: what is put in its place to see whether it has an effect.

The first are near the default, so that the code still runs, and the cheaper ones come first: fewer samples before more.
Nothing here is random: the same parameter gets the same other values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from cmbagent_nb.skills.model import Parameter

#: Words that stand for one choice of several, as options of the usual libraries have them.
_CHOICES = (
    ("two-sided", "less", "greater"),
    ("linear", "nearest", "cubic", "quadratic"),
    ("MS", "QS", "YS"),
    ("ME", "QE", "YE"),
    ("D", "W", "2D"),
    ("W", "MS", "D"),
    ("h", "D", "2h"),
    ("min", "max", "mean"),
    ("mean", "median", "max", "min", "sum"),
    ("pearson", "spearman", "kendall"),
    ("BFGS", "Nelder-Mead", "L-BFGS-B", "Powell"),
    ("RK45", "RK23", "DOP853", "LSODA"),
    ("lm", "trf", "dogbox"),
    ("inner", "outer", "left"),
    ("hann", "hamming", "blackman", "boxcar"),
    ("euler", "leapfrog", "rk4"),
    ("scott", "silverman"),
    ("constant", "linear"),
    ("log", "linear"),
    ("rbf", "linear", "poly"),
    ("lowpass", "highpass"),
    ("euclidean", "cityblock"),
    ("ward", "single", "complete", "average"),
)
_DATE_FORMS = (
    "%Y-%m-%d", "%Y-%m", "%Y", "%Y/%m/%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)  # fmt: skip
#: How many other values are tried at most.
MOST = 8


def other_values(parameter: Parameter, words: Collection[str] = ()) -> list[Any]:
    """Return other values for a parameter, the likeliest to show an effect first.

    Parameters
    ----------
    words
        Texts that the data and the code know, from which another for a text is taken.

    >>> other_values(Parameter("lmax", "int", 2508))[:2], other_values(Parameter("tau", "float", 0.05))[:2]
    ([2258, 2758], [0.045, 0.0625])
    """
    found: list[Any] = []
    for value in _others(parameter, words):
        if value != parameter.default and value not in found:
            found.append(value)
    return found[:MOST]


def _others(parameter: Parameter, words: Collection[str]) -> Iterator[Any]:
    value = parameter.default
    if parameter.choices:
        yield from parameter.choices
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int) and parameter.type != "float":
        yield from _integers(value)
    elif isinstance(value, (int, float)):
        yield from _floats(float(value))
    elif isinstance(value, list):
        yield from _lists(value, words)
    elif isinstance(value, str):
        yield from _texts(value, words)


def _integers(value: int) -> Iterator[int]:
    tenth = max(1, abs(value) // 10)
    if value > 2:
        yield value - tenth
    yield value + tenth
    # a limit that nothing came near shows its effect only far away
    yield value // 3 if abs(value) > 3 else value + 3
    yield value * 3 + 1
    yield 2
    yield value * 20 + 7
    yield 0


def _floats(value: float) -> Iterator[float]:
    if value == 0:
        yield from (0.1, 1.0, -0.5, 10.0)
        return
    # 12 digits: 0.05 * 0.9 is 0.045, not 0.045000000000000005
    yield from (float(f"{value * factor:.12g}") for factor in (0.9, 1.25, 0.3, 3.0, 30.0, 1e-3, 1e3, -1.0))


def _lists(value: list[Any], words: Collection[str]) -> Iterator[list[Any]]:
    if not value:
        return
    if all(isinstance(item, str) for item in value):
        if len(value) > 1:
            yield value[:-1]
            yield value[1:]
        for other in _texts(value[0], set(words) - set(value)):
            yield [other, *value[1:]]
        return
    first = value[0]
    inner: Iterable[Any] = (
        _lists(first, words)
        if isinstance(first, list)
        else _integers(first)
        if isinstance(first, int)
        else _floats(first)
        if isinstance(first, float)
        else ()
    )
    others = list(inner)
    if all(isinstance(item, (int, float)) for item in value) and not all(isinstance(item, int) for item in value):
        yield [float(f"{item * 0.95:.12g}") if item else 0.01 for item in value]
    last = value[-1]
    if isinstance(last, (int, float)) and not isinstance(last, bool) and len(value) > 1:
        changed = next(_integers(last)) if isinstance(last, int) else next(_floats(last))
        yield [*value[:-1], changed]
    for other in others[:2]:
        yield [other, *value[1:]]
    if len(value) > 1:
        yield value[:-1]


def _texts(value: str, words: Collection[str]) -> Iterator[str]:
    yield from _dates(value)
    for choices in _CHOICES:
        if value in choices:
            yield from (item for item in choices if item != value)
    shaped = [word for word in sorted(words) if word != value and _alike(word, value)]
    yield from shaped[:2]
    number = re.fullmatch(r"(\d+)([A-Za-z]+)", value)
    if number:
        yield f"{int(number.group(1)) * 2}{number.group(2)}"
    yield from (word for word in sorted(words) if word != value and word not in shaped[:2])
    yield f"{value}_2"


def _alike(word: str, value: str) -> bool:
    """Tell whether two words could stand in one column: of one case and of about one length."""
    return word.islower() == value.islower() and word.isupper() == value.isupper() and abs(len(word) - len(value)) < 8


def _dates(value: str) -> Iterator[str]:
    for form in _DATE_FORMS:
        try:
            date = datetime.strptime(value, form)
        except ValueError:
            continue
        days = 366 if form == "%Y" else 31 if form == "%Y-%m" else 40
        yield (date + timedelta(days=days)).strftime(form)
        yield (date - timedelta(days=days)).strftime(form)
        return


def other_name(path: str) -> str:
    """Return another name for a file that is made, in the same folder and of the same kind.

    >>> other_name("data/fit.json"), other_name("spectrum")
    ('data/fit_renamed.json', 'spectrum_renamed')
    """
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{pure.stem}_renamed{pure.suffix}"))
