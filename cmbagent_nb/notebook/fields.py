"""Builds the form field of one parameter of a skill: a control of its type, its unit and its meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from cmbagent_nb.notebook.comms import assign
from cmbagent_nb.render.text import esc

if TYPE_CHECKING:
    from cmbagent_nb.skills.model import Parameter


class Field:
    """The field of one parameter.

    Numbers and lists are typed as text, so that what was typed can be checked as a whole and told about;
    a truth value is a box to tick, and where only some values make sense they are a list to choose from.
    """

    def __init__(self, parameter: Parameter, skill: str) -> None:
        self.parameter = parameter
        self._skill = skill
        self.control = self._control()
        self._error = ipywidgets.HTML()
        label = ipywidgets.HTML(_label(parameter))
        self.widget = ipywidgets.Box([label, self.control, ipywidgets.HTML(_meaning(parameter)), self._error])
        self.widget.add_class("cmbv-field")

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name

    @property
    def value(self) -> Any:
        """The field's value, in the parameter's type.

        Raises
        ------
        SkillError
            It does not read as that type.
        """
        held = self.control.value
        if self.parameter.kind != "value" or self.parameter.type in ("str", "bool"):
            return held
        return self.parameter.check(held, self._skill)

    @property
    def changed(self) -> bool:
        """Whether the field holds something else than the default."""
        return bool(self.control.value != self._begin())

    def reset(self) -> None:
        """Put the default back."""
        self.control.value = self._begin()
        self.mark("")

    def mark(self, error: str) -> None:
        """Say what is wrong with the field's value; nothing, when it is right."""
        assign(self._error, value=f'<div class="cmbv-error">{esc(error)}</div>' if error else "")
        (self.widget.add_class if error else self.widget.remove_class)("cmbv-wrong")

    def _begin(self) -> Any:
        default = self.parameter.default
        if self.parameter.type == "bool" or isinstance(default, str):
            return default
        if isinstance(default, list):
            import json

            return json.dumps(default)
        return repr(default)

    def _control(self) -> Any:
        begin = self._begin()
        if self.parameter.type == "bool":
            return ipywidgets.Checkbox(value=begin, indent=False)
        choices = list(getattr(self.parameter, "choices", None) or ())
        if self.parameter.type == "str" and len(choices) > 1 and begin in choices:
            return ipywidgets.Dropdown(options=choices, value=begin)
        return ipywidgets.Text(value=begin, continuous_update=False)


def _label(parameter: Parameter) -> str:
    kind = {"input": "file", "output": "output file"}.get(parameter.kind, parameter.type)
    return f'<code>{esc(parameter.name)}</code> <span class="cmbv-meta">{esc(kind)}</span>'


def _meaning(parameter: Parameter) -> str:
    unit = f"[{parameter.unit}]" if parameter.unit else ""
    help_ = parameter.help.replace(unit, "").strip() if unit else parameter.help
    return f'<span class="cmbv-meta">{esc(" ".join(filter(None, (unit, help_))))}</span>'
