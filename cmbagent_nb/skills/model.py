"""Defines the parts of a skill: plain values, made by the extraction and stored in the library.

A :class:`Parameter` is one thing that a user may vary. Its ``kind`` says what its value is:
``value`` (a number, a text, a truth value, a list), ``input`` (a file that the code reads) or
``output`` (the name of a file that the code writes).
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills import forms

Value = int | float | str | bool | list[Any] | dict[str, Any] | None
Kind = Literal["value", "input", "output"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a skill: its name, type (int, float, str, bool, list, dict or any), default and help."""

    name: str
    type: str
    default: Any
    help: str = ""
    kind: Kind = "value"
    unit: str = ""
    steps: tuple[str, ...] = ()
    source: str = ""
    #: What successful runs had: the least and the largest number, or the texts.
    seen: tuple[Any, ...] = ()
    #: The values that the code takes, where it says so.
    choices: tuple[Any, ...] = ()
    #: Whether it may be None.
    optional: bool = False
    #: What a text or list stands for that JSON lacks, such as date, path, complex or tuple.
    form: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the parameter as it is kept in the library and shown as JSON."""
        lists = {name: list(getattr(self, name)) for name in ("steps", "seen", "choices")}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Parameter:
        """Read a parameter back from the library; what a newer version added is passed over."""
        known = {key: row[key] for key in cls.__dataclass_fields__ if key in row}
        return cls(**{**known, **{name: tuple(known.get(name) or ()) for name in ("steps", "seen", "choices")}})

    def text(self) -> str:
        """Return the parameter in a few words.

        >>> Parameter("lmax", "int", 2508).text()
        'lmax (int, 2508)'
        """
        return f"{self.name} ({self.form or self.type}, {self.default!r})"

    def check(self, value: Any, skill: str = "") -> Any:
        """Return ``value`` as this parameter's type, or refuse it.

        A whole number is taken for a float, and a text that reads as the type (from a command
        line) is taken as its value; nothing else is converted.

        >>> Parameter("lmax", "int", 2508).check("1500"), Parameter("H0", "float", 67.36).check(70)
        (1500, 70.0)
        """
        try:
            converted = self._converted(value)
            if self.choices and converted is not None and converted not in self.choices:
                raise SkillError(
                    f"parameter {self.name} of skill {skill or '?'} cannot be {converted!r}",
                    f"It is one of {', '.join(map(repr, self.choices))}.",
                    parameter=self.name,
                    value=value,
                )
            return converted
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise SkillError(
                f"parameter {self.name} of skill {skill or '?'} is {_kind_name(self.form or self.type)}, "
                f"not {_shown(value)}",
                f"Give it as in {self.name}={self.default!r}.",
                parameter=self.name,
                value=value,
            ) from None

    def _converted(self, value: Any) -> Any:
        if self.optional and (value is None or (isinstance(value, str) and value.strip() in ("None", "null"))):
            return None
        value = forms.given(self.form, value) if self.form else value
        converted = _writable(_convert(self.type, value, self.default))
        forms.check(self.form, converted)
        return converted


def type_of(value: Any) -> str:
    """Return the name of a parameter's type for a literal.

    >>> [type_of(value) for value in (True, 3, 2.5, "a", [1, 2])]
    ['bool', 'int', 'float', 'str', 'list']
    """
    for kind in (bool, int, float, str, list, dict):
        if isinstance(value, kind):
            return kind.__name__
    raise TypeError(f"{type(value).__name__} cannot be a parameter")


def _kind_name(kind: str) -> str:
    names = {
        "int": "a whole number",
        "float": "a number",
        "bool": "True or False",
        "list": "a list",
        "str": "a text",
        "any": "a value that can be written into a notebook",
    }
    article = "an" if kind[:1] in "aeiou" else "a"
    return names.get(kind, f"{article} {kind}")


def _plain(value: Any) -> Any:
    """Turn numpy scalars, arrays and tuples into Python's own values."""
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        value = value.tolist()
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


#: Digits of a whole number that Python writes out.
_MOST_DIGITS = 4300
_LONGEST_SHOWN = 200


def _writable(value: Any) -> Any:
    """Return a value that can be written into a notebook: plain, and each part of it a text in UTF-8."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int):
        if abs(value) >= 10**_MOST_DIGITS:
            raise ValueError(value.bit_length())
    elif isinstance(value, list):
        for item in value:
            _writable(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            _writable([name, item])
    elif value is not None and not isinstance(value, float):
        raise TypeError(type(value).__name__)
    return value


def _shown(value: Any) -> str:
    """Return a value that was refused, as far as it can be shown."""
    try:
        text = repr(value)
    except ValueError:
        return "one of so many digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _convert(kind: str, value: Any, default: Any) -> Any:
    value = _plain(value)
    if isinstance(value, str) and kind != "str":
        value = _from_text(kind, value.strip())
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "int":
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind == "float":
        known = isinstance(default, float) and math.isnan(default)
        unwanted = isinstance(value, float) and math.isnan(value) and not known
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not unwanted:
            # code whose default is written as 1 has run with 1, and may write it into a name
            keeps = isinstance(value, int) and isinstance(default, int) and not isinstance(default, bool)
            number = float(value)
            return value if keeps else number
    elif kind == "str":
        if isinstance(value, str):
            return value
    elif kind == "list" and isinstance(value, list):
        return _convert_list(value, default)
    elif kind == "any" or (kind == "dict" and isinstance(value, dict)):
        return value
    raise TypeError(value)


def _convert_list(value: list[Any], default: Any) -> list[Any]:
    items = default if isinstance(default, list) and None not in default else []
    kinds = {type_of(item) for item in items}
    if kinds == {"int", "float"}:
        kinds = {"float"}
    if len(kinds) != 1:
        return value
    kind = kinds.pop()
    return [_convert(kind, item, None) for item in value]


def _whole(text: str) -> int:
    """Read a whole number as people write it: ``3``, ``3.0``, ``2e3``.

    Raises
    ------
    ValueError
        It is none, or of more digits than can be written out.
    """
    from decimal import Decimal, InvalidOperation

    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:
        raise ValueError(text) from None
    if not number.is_finite() or abs(number.adjusted()) >= _MOST_DIGITS or number != number.to_integral_value():
        raise ValueError(text)
    return int(number)


def _from_text(kind: str, text: str) -> Any:
    if kind in ("any", "dict") or (kind == "list" and text.startswith(("[", "(", "{"))):
        return _literal(text, kind)
    if kind == "bool":
        truth = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if text.lower() not in truth:
            raise ValueError(text)
        return truth[text.lower()]
    if kind == "int":
        return _whole(text)
    if kind == "float":
        whole = re.fullmatch(r"[-+]?\d{1,15}", text) is not None
        return int(text) if whole else float(text)
    return [_item(part.strip()) for part in text.split(",") if part.strip()]


def _literal(text: str, kind: str) -> Any:
    """Read a value from its text: JSON, else a literal of Python, else, where any value will do, the text itself."""
    import ast
    import json

    for read in (json.loads, ast.literal_eval):
        try:
            return _plain(read(text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if kind == "any":
        return text
    raise ValueError(text)


def _item(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class StepCode:
    """The code of a step's successful attempt, and what it read and made."""

    node_id: str
    title: str
    instructions: str
    agent: str
    code: str
    #: The script's path in the attempt's folder, such as ``codebase/fit.py``.
    script: str
    #: The attempt's folder, absolute; it holds what the code made just as it made it.
    folder: str
    attempt: int = 1
    depends_on: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    #: Files made, by path in the run, with their sha256.
    made: dict[str, str] = field(default_factory=dict)
    event_id: str = ""
    duration_s: float | None = None
    #: What the code printed (its end, if it was long).
    printed: str = ""
    #: What the attempts before it failed with, one after the other.
    errors: tuple[str, ...] = ()
