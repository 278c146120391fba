"""Find tests that compare a computed number with more digits than every machine gives alike.

Another processor or another linear-algebra library changes the last digits of a float. A test may hold at most seven
significant digits of one, in a number or in a text. A comparison that must be exact on every machine, such as the
round trip of a constant, ends its line with ``# exact``.

>>> problems("assert chi2 == 207.61364593689596")
['1: 207.61364593689596 has 17 digits']
>>> problems("assert chi2 == pytest.approx(207.6136)")
[]
>>> problems("assert 'chi2 = 207.61364593689596' in text")
['1: 207.61364593689596 has 17 digits']
>>> problems("CHI2 = 207.61364593689596\\nassert chi2 == CHI2")
['1: 207.61364593689596 has 17 digits']
>>> problems("assert parse('1.23456789012') == 1.23456789012  # exact")
[]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

#: The most significant digits of a float that a test may hold.
MOST = 7
_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?:[eE][+-]?\d+)?(?![\w.])")
#: Functions whose arguments are compared with a computed number.
_COMPARING = re.compile(r"approx$|close$|^assert_|^assertAlmostEqual")
_LITERALS = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.Set)


def problems(source: str) -> list[str]:
    """Return the line and the number of each comparison that holds too many digits."""
    lines = source.splitlines()
    found: dict[tuple[int, str], None] = {}
    tree = ast.parse(source)
    named: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, []).append(node.value)
    for node in ast.walk(tree):
        for constant in _compared(node, named):
            for number in _numbers(source, constant):
                line = lines[constant.lineno - 1]
                if len(_significant(number)) > MOST and "# exact" not in line:
                    found[constant.lineno, number] = None
    return [f"{line}: {number} has {len(_significant(number))} digits" for line, number in found]


def _compared(node: ast.AST, named: dict[str, list[ast.AST]]) -> Iterator[ast.Constant]:
    """Yield the constants of a comparison, or of a call that compares, with those that it names."""
    if isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and _COMPARING.search(_name(node.func))):
        names = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
        values = [value for name in names for value in named.get(name, ()) if isinstance(value, _LITERALS)]
        for tree in (node, *values):
            for inner in ast.walk(tree):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, float | str):
                    yield inner


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _numbers(source: str, constant: ast.Constant) -> list[str]:
    if isinstance(constant.value, float):
        if constant.value.is_integer() and abs(constant.value) < 2**53:
            return []
        return [(ast.get_source_segment(source, constant) or repr(constant.value)).replace("_", "")]
    return _NUMBER.findall(constant.value)


def _significant(number: str) -> str:
    """Return the significant digits of a number's text.

    >>> _significant("0.00120"), _significant("1.5e-10")
    ('120', '15')
    """
    return re.sub(r"[eE].*|\.", "", number).lstrip("0")


def main(folder: Path) -> int:
    """Print what is wrong in the tests below a folder; returns 1 if there is anything."""
    status = 0
    for path in sorted(folder.rglob("*.py")):
        if "cases" in path.parts:
            continue
        for problem in problems(path.read_text(encoding="utf-8")):
            sys.stdout.write(f"{path}:{problem}: compare seven digits at most\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
