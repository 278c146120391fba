r"""Fills variables of the notebook into the text of a task: ``{name}`` becomes the variable's value.

| in the task | becomes |
|---|---|
| ``{lmax}``, ``{cfg.lmax}``, ``{row["z"]}``, ``{chi2:.1f}`` | the value, as text |
| ``{df}``, a table, an array, a long list | a description of it; its content is never pasted |
| ``{lmax}``, and there is no such variable | an error that names it: a misspelt name must not reach a model unseen |
| ``{{lmax}}`` | ``{lmax}`` |
| ``$\sqrt[3]{x}$``, ``$$…$$``, ``\(…\)``, ``\[…\]``, ``\begin{…}…\end{…}`` | itself: formulas are LaTeX |
| ``\textbf{a}``, ``\sqrt[3]{x}``, ``\Omega_{m}``, ``x^{n}`` outside of a formula | itself |
| fenced blocks of code, ``{"a": 1}``, ``{a, b}``, ``{}`` | itself |
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.notebook.describe import text_of

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,}).*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_ESCAPED = re.compile(r"\\[^A-Za-z(\[]")
_MATH = re.compile(
    r"\$\$.+?\$\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(?P<name>[A-Za-z]+\*?)\}.*?\\end\{(?P=name)\}", re.DOTALL
)
#: A formula between single dollars: no space inside next to them, no blank line and no other dollar between them. A
#: dollar before a digit or a brace ends none: it is a price.
_INLINE = re.compile(r"\$(?!\s)(?P<inner>(?:\\.|(?!\n[ \t]*\n)[^$\\])+?)(?<![\s\\])\$(?![\d{])", re.DOTALL)
#: The same with spaces inside, which is one where it has a sign of LaTeX in it.
_SPACED = re.compile(r"\$(?=\s)(?P<inner>(?:\\.|(?!\n[ \t]*\n)[^$\\])+?)(?<=\s)\$(?![\d{])", re.DOTALL)
#: What looks like a formula and is a price with words: ``$5 and {x} costs 6$``.
_PRICES = re.compile(r"\d[\d.,]*\s+[A-Za-z]{2,}[^\\^_=<>]*")
_COMMAND = re.compile(r"\\[A-Za-z]+\*?")
_CODE = re.compile(r"(`+)(?!`)[^\n]*?(?<!`)\1(?!`)")
_KEPT = re.compile(r"\{\{([^{}]*)\}\}")
_REFERENCE = re.compile(r"[^{}#]+#[^{}]+")
_PLACE = re.compile(
    r"\{(?P<expression>[^\W\d]\w*(?:\.[^\W\d]\w*|\[(?:-?\d+|'[^'\\{}\n]*'|\"[^\"\\{}\n]*\")\])*)"
    r"(?::(?P<form>[-+ <>=^0,_.\d]*[bcdeEfFgGnosxX%]))?\}"
)
_END_OF_PATH = re.compile(r"[^\s{}]*(?:\{[^{}]*\}[^\s{}]*)*?(?:\.[A-Za-z][A-Za-z0-9]{0,5}\b|/)")


def fill(task: str, namespace: Mapping[str, Any]) -> str:
    """Fill the variables into a task.

    >>> fill("Fit up to {lmax}, not {{lmax}}; report \\\\Omega_{m}.", {"lmax": 2000})
    'Fit up to 2000, not {lmax}; report \\\\Omega_{m}.'

    Raises
    ------
    UsageError
        There is no variable of this name, or its text cannot be made.
    """
    return "".join(_filled(task, namespace))


def _filled(task: str, namespace: Mapping[str, Any]) -> Iterator[str]:
    fences = {found.start(): found.end() for found in _FENCE.finditer(task)}
    place = 0
    while place < len(task):
        if place in fences:
            end = fences[place]
            yield task[place:end]
        elif (end := _latex(task, place)) > place:
            yield task[place:end]
        elif task[place] == "`" and (code := _CODE.match(task, place)) and _is_code(code[0]):
            end = code.end()
            yield code[0]
        elif task[place] == "{":
            text, end = _braces(task, place, namespace)
            yield text
        else:
            end = place + 1
            yield task[place]
        place = end


def _latex(task: str, place: int) -> int:
    """Return where a formula, or a command with its arguments, that begins here ends; ``place`` if none does."""
    letter = task[place]
    if letter == "\\" and (escaped := _ESCAPED.match(task, place)):
        return escaped.end()
    if letter in "\\$" and (found := _MATH.match(task, place)):
        return found.end()
    if letter == "$" and (found := _INLINE.match(task, place)):
        return place if _PRICES.fullmatch(found["inner"]) else found.end()
    if letter == "$" and (found := _SPACED.match(task, place)) and re.search(r"[\\^_=]", found["inner"]):
        return found.end()
    if letter == "\\" and (found := _COMMAND.match(task, place)):
        return _scripts(task, _arguments(task, found.end()))
    if letter in "_^" and task[place + 1 : place + 2] == "{" and not _is_in_path(task, place):
        return _scripts(task, place)
    return place


def _scripts(task: str, place: int) -> int:
    """Return where indices, powers and further arguments end."""
    while task[place : place + 1] in ("_", "^") and task[place + 1 : place + 2] == "{":
        end = _arguments(task, place + 1)
        if end == place + 1:
            break
        place = end
    return place


def _arguments(task: str, place: int) -> int:
    """Return where the arguments end that begin here: ``[…]`` and ``{…}``, one behind the other."""
    while task[place : place + 1] in ("[", "{"):
        end = _closing(task, place)
        if end is None:
            break
        place = end
    return place


def _closing(task: str, place: int) -> int | None:
    """Return the place behind the bracket that closes the one here; ``None`` if nothing does."""
    pairs, open_ones = {"{": "}", "[": "]"}, [task[place]]
    place += 1
    while place < len(task):
        letter = task[place]
        if letter == "\\":
            place += 1
        elif letter == "{" or (letter == "[" and open_ones[-1] == "["):
            open_ones.append(letter)
        elif letter == pairs[open_ones[-1]]:
            open_ones.pop()
            if not open_ones:
                return place + 1
        elif letter == "}":
            return None
        place += 1
    return None


def _is_in_path(task: str, place: int) -> bool:
    """Tell whether an index is a part of a file's name: ``data/cl_{lmax}.json``."""
    start = max(task.rfind(mark, 0, place) for mark in " \t\n") + 1
    before = task[start:place]
    return "\\" not in before and ("/" in before or _END_OF_PATH.match(task, place) is not None)


def _is_code(text: str) -> bool:
    """Tell whether inline code is such that braces in it belong to it: it quotes something, or is more than a name."""
    return any(mark in text for mark in "\"'=(;$\\")


def _braces(task: str, place: int, namespace: Mapping[str, Any]) -> tuple[str, int]:
    """Return what stands for the braces that open here, and where they end."""
    kept = _KEPT.match(task, place)
    if kept:
        inner = kept[1]
        return (kept[0] if _REFERENCE.fullmatch(inner) else "{" + inner + "}"), kept.end()
    found = _PLACE.match(task, place)
    if found is None:
        return "{", place + 1
    expression, form = found["expression"], found["form"]
    root = re.split(r"[.\[]", expression, maxsplit=1)[0]
    if root not in namespace:
        close = difflib.get_close_matches(root, [key for key in namespace if not key.startswith("_")], 1)
        if (root != expression or form is not None) and not close:
            return found[0], found.end()
        raise _unknown(root, expression, close)
    value = _value(expression, namespace)
    if form is not None:
        try:
            return format(value, form), found.end()
        except Exception:  # whatever a format that does not fit raises: then it is none
            return found[0], found.end()
    return text_of(expression, value), found.end()


def _value(expression: str, namespace: Mapping[str, Any]) -> Any:
    """Look an expression up: a name, its attributes and items; nothing is called."""
    try:
        return _look_up(ast.parse(expression, mode="eval").body, namespace)
    except (SyntaxError, ValueError):
        raise UsageError(f"the task names {{{expression}}}, which cannot be read", "Name a variable.") from None
    except Exception as error:  # whatever the user's own objects raise
        raise UsageError(
            f"the task names {{{expression}}}, which is not there ({type(error).__name__})",
            f"Define it, or write {{{{{expression}}}}} to keep the braces.",
            variable=expression,
        ) from None


def _look_up(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return namespace[node.id]
    if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
        return getattr(_look_up(node.value, namespace), node.attr)
    if isinstance(node, ast.Subscript):
        return _look_up(node.value, namespace)[ast.literal_eval(node.slice)]
    raise ValueError(ast.dump(node))


def _unknown(root: str, expression: str, close: list[str]) -> UsageError:
    hint = f"Did you mean {{{close[0]}}}? " if close else ""
    return UsageError(
        f"the task names {{{expression}}} and there is no variable {root!r}",
        f"{hint}Define it, or write {{{{{expression}}}}} to keep the braces.",
        variable=root,
    )
