"""Reads a value as it is written in code: plain, or as text with the constructor that makes it what it was.

Nothing is evaluated but literals, arithmetic on them, a few constants and functions of mathematics, and the
constructors of :data:`_CONSTRUCTORS`, whose arguments are literals.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from typing import Any

from cmbagent_nb.skills.model import type_of

#: A text or list that is longer is not taken for a value that somebody gives.
_LONGEST = 1_000_000
_LARGEST_POWER = 10_000
_MODULES = frozenset({"np", "numpy", "math", "cmath", "jnp", "xp", "scipy"})
_NUMBERS = {
    "pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf, "Inf": math.inf, "infty": math.inf, "nan": math.nan,
    "NaN": math.nan, "euler_gamma": 0.5772156649015329,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt, "log": math.log, "log10": math.log10, "log2": math.log2, "exp": math.exp,
    "radians": math.radians, "deg2rad": math.radians, "degrees": math.degrees, "rad2deg": math.degrees,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip
_BUILT_IN: dict[str, Callable[..., Any]] = {
    "int": int, "float": float, "str": str, "bool": bool, "abs": abs, "round": round, "min": min, "max": max,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.BitOr: operator.or_, ast.BitAnd: operator.and_, ast.BitXor: operator.xor,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip
_NONE = ("None", "NoneType")
_NAMED = {"int": "int", "float": "float", "str": "str", "bool": "bool", "list": "list", "dict": "dict"}
_ABSTRACT = {
    "List": "list", "Sequence": "list", "Iterable": "list", "Dict": "dict", "Mapping": "dict", "Any": "any",
    "object": "any", "Number": "float", "Real": "float", "Integral": "int", "LiteralString": "str",
}  # fmt: skip
#: Constructors that take a text: name → form of the text.
_FROM_TEXT = {
    "Path": "path", "PurePath": "path", "PosixPath": "path", "PurePosixPath": "path", "WindowsPath": "path",
    "Decimal": "decimal", "Fraction": "fraction", "Timestamp": "timestamp", "Timedelta": "timedelta",
    "datetime64": "datetime64", "Time": "time text", "complex": "complex",
}  # fmt: skip
_ISO = {"date": date, "datetime": datetime, "time": time}
_COLLECTIONS = frozenset({"tuple", "set", "frozenset", "array", "asarray", "OrderedDict", "Series", "Index", "deque"})
_SCALARS = frozenset(
    {
        "float64",
        "float32",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float_",
    }
)


class NotPlain(Exception):
    """A value is no literal; the text says why."""


@dataclass(frozen=True)
class Written:
    """A value: as JSON has it, its type, and how the code gets what was written."""

    value: Any
    type: str
    #: An expression with ``{}`` for the name, or nothing where the value is what was written.
    convert: str = ""
    #: What its text has to be: date, complex …
    form: str = ""
    optional: bool = False
    choices: tuple[Any, ...] = ()

    def conversion(self, name: str) -> str:
        """Return the line that turns the given value into what the code works with."""
        made = self.convert.replace("{}", name)
        return f"{name} = None if {name} is None else {made}" if self.optional else f"{name} = {made}"


@dataclass
class Context:
    """Definitions of the code around: enumerations with their members, names taken from mathematical modules."""

    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trees: Iterable[ast.Module]) -> Context:
        """Read it from the trees of all cells."""
        found = cls()
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and any(
                    _last(base).endswith(("Enum", "Flag")) for base in node.bases
                ):
                    found.enums[node.name] = tuple(
                        target.id
                        for item in node.body
                        if isinstance(item, ast.Assign)
                        for target in item.targets
                        if isinstance(target, ast.Name) and not target.id.startswith("_")
                    )
                elif isinstance(node, ast.ImportFrom) and node.module in ("math", "numpy", "cmath", "scipy.constants"):
                    found.numbers |= {
                        alias.asname or alias.name: _NUMBERS[alias.name]
                        for alias in node.names
                        if alias.name in _NUMBERS
                    }
        return found


@dataclass(frozen=True)
class Said:
    """Content of an annotation: the type, whether None is allowed, the choices, the constructor, a help text."""

    type: str = ""
    optional: bool = False
    choices: tuple[Any, ...] = ()
    #: The annotation's own source, where it names a type that JSON lacks.
    source: str = ""
    help: str = ""


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def declared_type(annotation: ast.expr | None) -> Said:
    """Return what an annotation says.

    >>> declared_type(ast.parse("x: int | None").body[0].annotation)
    Said(type='int', optional=True, choices=(), source='', help='')
    """
    if annotation is None:
        return Said()
    if isinstance(annotation, ast.Constant):
        if annotation.value is None:
            return Said(optional=True)
        if isinstance(annotation.value, str):
            try:
                return declared_type(ast.parse(annotation.value.strip(), mode="eval").body)
            except SyntaxError:
                return Said(help=annotation.value.strip())  # papermill shows such a text as help
        return Said()
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _union([annotation.left, annotation.right])
    if isinstance(annotation, ast.Subscript):
        name, inner = _last(annotation.value), annotation.slice
        items = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if name == "Optional":
            return replace(declared_type(items[0]), optional=True)
        if name == "Union":
            return _union(items)
        if name in ("Final", "ClassVar", "Annotated"):
            texts = [item.value for item in items[1:] if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            return replace(declared_type(items[0]), help=texts[0] if texts else "")
        if name == "Literal":
            values = [item.value for item in items if isinstance(item, ast.Constant)]
            plain = [value for value in values if isinstance(value, (str, int, bool))]
            kinds = {type_of(value) for value in plain}
            return Said(kinds.pop() if len(kinds) == 1 else "any", None in values, tuple(plain))
        return declared_type(annotation.value)
    name = _last(annotation)
    if name in _NONE:
        return Said(optional=True)
    kind = _NAMED.get(name) or _ABSTRACT.get(name, "")
    return Said(kind, optional=kind == "any", source="" if kind else ast.unparse(annotation))


def _union(items: list[ast.expr]) -> Said:
    found = [declared_type(item) for item in items]
    optional = any(item.optional for item in found)
    kinds = list(dict.fromkeys((item.type, item.source) for item in found if item.type or item.source))
    if {kind for kind, _ in kinds} == {"int", "float"}:
        kinds = [("float", "")]
    if len(kinds) == 1:
        choices = tuple(value for item in found for value in item.choices)
        return Said(kinds[0][0], optional, choices, kinds[0][1])
    return Said("any", optional)


def read_value(node: ast.expr, annotation: ast.expr | None, context: Context) -> Written:
    """Read a value with what its annotation says.

    Raises
    ------
    NotPlain
        It is computed from something that is no literal.
    """
    said = declared_type(annotation)
    found = _read(node, context)
    value = found.value
    if value is None:
        if said.source:
            return replace(_of_type(said.source, context), value=None, optional=True, choices=said.choices)
        return Written(None, said.type or "any", optional=True, choices=said.choices)
    if found.convert:
        return replace(found, optional=said.optional)
    if said.type == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    kind = type_of(value)
    # Where the annotation and the value disagree, the value is what the code worked with.
    kind = "any" if said.type == "any" else kind
    choices = said.choices if value in said.choices else ()
    return Written(value, kind, optional=said.optional, choices=choices)


def _of_type(source: str, context: Context) -> Written:
    """Return how a value of a type that JSON lacks is given, for a parameter whose default is None."""
    name = _last(ast.parse(source, mode="eval").body)
    if name in _ISO:
        return Written(None, "str", f"{source}.fromisoformat({{}})", name)
    if name in _FROM_TEXT:
        return Written(None, "str", f"{source}({{}})", _FROM_TEXT[name])
    if name.casefold() in ("tuple", "set", "frozenset"):
        return Written(None, "list", f"{name.casefold()}({{}})")
    if name in ("ndarray", "ArrayLike", "NDArray"):
        return Written(None, "list")
    if name == "bytes":
        return Written(None, "str", "ast.literal_eval({})", "bytes")
    if name in context.enums:
        return Written(None, "str", f"{source}[{{}}]", choices=context.enums[name])
    return Written(None, "any")


def _read(node: ast.expr, context: Context) -> Written:
    """Read a value, plain or by its constructor."""
    try:
        value = _evaluate(node, context)
    except NotPlain:
        return _constructed(node, context)
    except Exception as error:  # arithmetic on literals that fails: 1 / 0, "a" + 1
        raise NotPlain(f"its value cannot be computed ({type(error).__name__})") from None
    return _of_value(value, ast.unparse(node))


def _of_value(value: Any, source: str) -> Written:
    """Return a Python value as it is given: as JSON has it, or as text with its conversion."""
    if isinstance(value, complex):
        return Written(str(value).strip("()"), "str", "complex({})", "complex")
    if isinstance(value, bytes):
        return Written(repr(value), "str", "ast.literal_eval({})", "bytes")
    if value is Ellipsis:
        raise NotPlain("it is no value that can be given")
    if value is None or isinstance(value, (bool, int, float, str)):
        return Written(value, "any" if value is None else type_of(value))
    try:
        plain, convert = _collection(value, 0)
    except TypeError:
        text = written(value)
        if "float('nan')" in text:
            raise NotPlain("a collection with nan cannot be given as text") from None
        return Written(text, "str", "ast.literal_eval({})", _literal_form(value))
    return Written(plain, type_of(plain), convert("{}") if convert else "", "" if not convert else type(value).__name__)


def written(value: Any, infinity: str = "1e309") -> str:
    """Return a literal as code; ``repr`` writes infinity as a name that is not defined.

    >>> written([float("inf"), (1,), {"a": {2}}])
    "[1e309, (1,), {'a': {2}}]"
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "float('nan')" if math.isnan(value) else infinity if value > 0 else f"-{infinity}"
    inner = [written(item, infinity) for item in value] if isinstance(value, (list, tuple, set, frozenset)) else []
    if isinstance(value, list):
        return f"[{', '.join(inner)}]"
    if isinstance(value, tuple):
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if isinstance(value, set) and inner:
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key, infinity)}: {written(item, infinity)}' for key, item in value.items())}}}"
    return repr(value)


def _literal_form(value: Any) -> str:
    return f"{type(value).__name__} literal"


_Convert = Callable[[str], str]


def _collection(value: Any, depth: int) -> tuple[Any, _Convert | None]:
    """Return a collection as JSON has it, and what makes it the collection that it was.

    Raises
    ------
    TypeError
        It cannot be given so, such as a mapping whose keys are no texts.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value, None
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys")
        inner = {key: _collection(item, depth + 1) for key, item in value.items()}
        if any(convert for _, convert in inner.values()):
            raise TypeError("values")
        return {key: item for key, (item, _) in inner.items()}, None
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(type(value).__name__)
    items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else list(value)
    parts = [_collection(item, depth + 1) for item in items]
    name = f"item{depth or ''}"
    texts = {convert(name) if convert else name for _, convert in parts}
    if len(texts) > 1:
        raise TypeError("items of several kinds")
    each = texts.pop() if texts else name
    kind = type(value).__name__
    if each == name:
        convert = None if kind == "list" else (lambda text: f"{kind}({text})")
    elif kind == "list":
        convert = lambda text: f"[{each} for {name} in {text}]"  # noqa: E731
    else:
        convert = lambda text: f"{kind}({each} for {name} in {text})"  # noqa: E731
    return [item for item, _ in parts], convert


def _constructed(node: ast.expr, context: Context) -> Written:
    """Read a value that is made by a constructor: of dates, paths, arrays, or a member of an enumeration."""
    if isinstance(node, ast.Attribute) and _last(node.value) in context.enums:
        members = context.enums[_last(node.value)]
        return Written(node.attr, "str", f"{ast.unparse(node.value)}[{{}}]", choices=members)
    if isinstance(node, ast.Subscript) and _last(node.value) in context.enums:
        name = _evaluate(node.slice, context)
        return Written(name, "str", f"{ast.unparse(node.value)}[{{}}]", choices=context.enums[_last(node.value)])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        made = _joined_path(node, context)
        if made is not None:
            return made
    if not isinstance(node, ast.Call):
        raise NotPlain(f"it is computed: {_short(node)}")
    function, name = ast.unparse(node.func), _last(node.func)
    try:
        arguments = [_evaluate(item, context) for item in node.args]
        keywords = {item.arg: _evaluate(item.value, context) for item in node.keywords if item.arg is not None}
    except NotPlain:
        raise NotPlain(f"it is computed: {_short(node)}") from None
    if any(item.arg is None for item in node.keywords):
        raise NotPlain(f"it is computed: {_short(node)}")
    try:
        return _made(function, name, arguments, keywords, node)
    except (TypeError, ValueError, OverflowError):
        raise NotPlain(f"it is computed: {_short(node)}") from None


def _joined_path(node: ast.BinOp, context: Context) -> Written | None:
    """``Path("data") / "a.csv"`` is the path data/a.csv."""
    try:
        left, right = _read(node.left, context), _evaluate(node.right, context)
    except NotPlain:
        return None
    if left.form != "path" or not isinstance(right, str):
        return None
    from pathlib import PurePosixPath

    return replace(left, value=str(PurePosixPath(left.value) / right))


def _made(function: str, name: str, arguments: list[Any], keywords: dict[str, Any], node: ast.Call) -> Written:
    if name in _ISO and (arguments or keywords):
        made = _ISO[name](*arguments, **keywords)
        return Written(made.isoformat(), "str", f"{function}.fromisoformat({{}})", name)
    if name in ("fromisoformat", "strptime") and _last(getattr(node.func, "value", node)) in _ISO:
        owner = _last(node.func.value)  # type: ignore[attr-defined]
        made = getattr(_ISO[owner], name)(*arguments, **keywords)
        return Written(made.isoformat(), "str", f"{function.rpartition('.')[0]}.fromisoformat({{}})", owner)
    if name == "timedelta":
        from datetime import timedelta

        seconds = timedelta(*arguments, **keywords).total_seconds()
        return Written(seconds, "float", f"{function}(seconds={{}})", "seconds")
    if (
        name in _FROM_TEXT
        and not keywords
        and arguments
        and all(isinstance(item, (str, int, float)) for item in arguments)
    ):
        return _from_text(function, name, arguments)
    if name in ("dict", "OrderedDict") and not arguments:
        return Written(keywords, "dict", "" if name == "dict" else f"{function}({{}})")
    if name == "list" and len(arguments) <= 1 and not keywords:
        return _of_value(list(*arguments), f"{list(*arguments)!r}")
    if name in _COLLECTIONS and len(arguments) <= 1:
        extra = "".join(f", {item.arg}={ast.unparse(item.value)}" for item in node.keywords)
        items = sorted(*arguments, key=repr) if "set" in name and arguments else list(*arguments)
        plain, convert = _collection(items, 0)
        inner = convert("{}") if convert else "{}"
        return Written(plain, "list", f"{function}({inner}{extra})", name)
    if name in _SCALARS and len(arguments) == 1 and not keywords and isinstance(arguments[0], (int, float)):
        kind = "float" if name.startswith("float") else "int"
        return Written(float(arguments[0]) if kind == "float" else int(arguments[0]), kind, f"{function}({{}})", name)
    if name in ("range", "slice", "bytes", "bytearray", "UUID", "Version") and not keywords and len(arguments) == 1:
        if name in ("UUID", "Version") and isinstance(arguments[0], str):
            return Written(arguments[0], "str", f"{function}({{}})", name)
        if name == "range" and isinstance(arguments[0], int):
            return Written(arguments[0], "int", f"{function}({{}})", "range")
    if name in ("range", "slice", "linspace", "arange", "logspace", "geomspace") and arguments and not keywords:
        return Written(arguments, "list", f"{function}(*{{}})", f"arguments of {name}")
    raise NotPlain(f"it is computed: {_short(node)}")


def _from_text(function: str, name: str, arguments: list[Any]) -> Written:
    if _FROM_TEXT[name] == "path" and all(isinstance(item, str) for item in arguments):
        from pathlib import PurePosixPath

        return Written(str(PurePosixPath(*arguments)), "str", f"{function}({{}})", "path")
    if name == "complex" and not isinstance(arguments[0], str):
        return Written(str(complex(*arguments)).strip("()"), "str", "complex({})", "complex")
    if name == "Fraction" and len(arguments) == 2:
        return Written(f"{arguments[0]}/{arguments[1]}", "str", f"{function}({{}})", "fraction")
    if len(arguments) == 1:
        return Written(str(arguments[0]), "str", f"{function}({{}})", _FROM_TEXT[name])
    raise NotPlain(f"it is computed: {function}(…)")


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}…"


# -- literals and arithmetic ---------------------------------------------------------------------


def _evaluate(node: ast.expr, context: Context) -> Any:
    """Return the value of literals and arithmetic on them.

    Raises
    ------
    NotPlain
        There is something else in it.
    """
    match node:
        case ast.Constant():
            return node.value
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_evaluate(node.operand, context))
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _arithmetic(node, context)
        case ast.Tuple():
            return tuple(_evaluate(item, context) for item in node.elts)
        case ast.List():
            return [_evaluate(item, context) for item in node.elts]
        case ast.Set():
            return {_evaluate(item, context) for item in node.elts}
        case ast.Dict() if all(key is not None for key in node.keys):
            keys = [_evaluate(key, context) for key in node.keys if key is not None]
            return dict(zip(keys, (_evaluate(item, context) for item in node.values), strict=True))
        case ast.JoinedStr() if all(isinstance(item, ast.Constant) for item in node.values):
            return "".join(str(item.value) for item in node.values if isinstance(item, ast.Constant))
        case ast.Attribute() if _last(node.value) in _MODULES and node.attr in _NUMBERS:
            return _NUMBERS[node.attr]
        case ast.Name() if node.id in context.numbers:
            return context.numbers[node.id]
        case ast.Call() if not node.keywords:
            function = _function(node.func)
            if function is not None:
                return function(*(_evaluate(item, context) for item in node.args))
    raise NotPlain(f"it is computed: {_short(node)}")


def _function(node: ast.expr) -> Callable[..., Any] | None:
    if isinstance(node, ast.Name):
        return _BUILT_IN.get(node.id)
    if isinstance(node, ast.Attribute) and _last(node.value) in _MODULES:
        return _FUNCTIONS.get(node.attr)
    return None


def _arithmetic(node: ast.BinOp, context: Context) -> Any:
    left, right = _evaluate(node.left, context), _evaluate(node.right, context)
    if isinstance(node.op, (ast.Pow, ast.LShift)) and isinstance(right, (int, float)) and abs(right) > _LARGEST_POWER:
        raise NotPlain("its value is too large")
    for one, other in ((left, right), (right, left)):
        repeats = isinstance(node.op, ast.Mult) and isinstance(one, (str, bytes, list, tuple))
        if repeats and isinstance(other, int) and len(one) * max(0, other) > _LONGEST:
            raise NotPlain("its value is too large")
    if isinstance(node.op, ast.Mod) and isinstance(left, (str, bytes)):
        raise NotPlain(f"it is computed: {_short(node)}")
    return _OPERATORS[type(node.op)](left, right)
