"""Variables of the notebook in the text of a task: ``{name}`` becomes the variable's value.

| in the task | becomes |
|---|---|
| ``{lmax}``, and there is a variable ``lmax`` | its value, as ``str`` gives it |
| ``{lmax}``, and there is none | an error that names it: a misspelt name must not reach a model unseen |
| ``{{lmax}}`` | ``{lmax}`` |
| ``\\Omega_{m}``, ``x^{2}``, ``\\frac{a}{b}`` | itself: names after ``_``, ``^``, ``}`` or a command are LaTeX |
| ``{"a": 1}``, ``{a.b}``, ``{}`` | itself: only simple names are filled |
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from cmbagent_nb.errors import UsageError

_BRACES = re.compile(
    r"\{\{(?P<kept>[^{}]*)\}\}|(?P<latex>[_^}]|\\[A-Za-z]+\*?)?\{(?P<name>[A-Za-z_]\w*)\}(?P<more>(?:\{\w*\})*)"
)


def fill(task: str, namespace: Mapping[str, Any]) -> str:
    """Fill the variables into a task.

    >>> fill("Fit up to {lmax}, not {{lmax}}; report \\\\Omega_{m}.", {"lmax": 2000})
    'Fit up to 2000, not {lmax}; report \\\\Omega_{m}.'

    Raises
    ------
    UsageError
        There is no variable of this name.
    """

    def value(found: re.Match[str]) -> str:
        if found["kept"] is not None:
            return "{" + found["kept"] + "}"
        name = found["name"]
        if found["latex"]:
            return found[0]
        if name not in namespace:
            close = difflib.get_close_matches(name, [key for key in namespace if not key.startswith("_")], 1)
            hint = f"Did you mean {{{close[0]}}}? " if close else ""
            raise UsageError(
                f"the task names {{{name}}} and there is no variable {name!r}",
                f"{hint}Define it, or write {{{{{name}}}}} to keep the braces.",
                variable=name,
            )
        return str(namespace[name]) + found["more"]

    return _BRACES.sub(value, task)
