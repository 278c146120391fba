"""Serializes values to JSON text and parses them back: the one place that does.

| what goes in | what comes back |
|---|---|
| text, numbers, true, false, null, lists, objects | the same |
| NaN and infinities, integers beyond 64 bits, bytes | the same (tagged in the text) |
| keys that are not text | the same where they are numbers, true, false or null; else as text |
| a lone surrogate in a text | U+FFFD in its place |
| tuples, sets, arrays | lists |
| dataclasses, pydantic models, mappings | objects |
| paths, UUIDs, times, enumerations, everything else | their text or value |

``to_json`` never raises: a value that has no better form is stored as its (shortened) ``repr``.

>>> to_json({"chi2": float("nan"), 3: b"x"})
'{"$map":[["chi2",{"$float":"nan"}],[3,{"$bytes":"eA=="}]]}'
>>> from_json(to_json({"a": [1, 10**30]}))
{'a': [1, 1000000000000000000000000000000]}
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import enum
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import orjson

from cmbagent_nb.errors import StoreError

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_TAGS = frozenset({"$float", "$int", "$bytes", "$map"})
_SURROGATES = re.compile("[\ud800-\udfff]")
_DEEPEST = 60
_LONGEST_REPR = 2000
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


class DamagedValue(StoreError, orjson.JSONDecodeError):
    """A string in the record that is not valid JSON."""

    def __init__(self, error: orjson.JSONDecodeError) -> None:
        what = f"a value in the record is damaged ({error.msg})"
        step = "Run `cmbagent doctor --repair`: it takes what is damaged from the journals of the runs."
        Exception.__init__(self, what, step)
        self.what, self.next_step, self.data = what, step, {"damaged": True}


def to_json(value: Any) -> str:
    """Turn any value into JSON text that :func:`from_json` reads back."""
    try:
        data = orjson.dumps(value, default=_simpler, option=_OPTIONS)
        # orjson writes NaN as null, and a text of the user could look like a tag: look closer then.
        if b"null" not in data and b'"$' not in data:
            return data.decode()
    except Exception:  # whatever an object of the user raises while it is looked at
        data = b""
    try:
        return orjson.dumps(_tagged(value, 0)).decode()
    except Exception:  # too deep or a lying object: its repr is better than no record
        return orjson.dumps(_repr(value)).decode()


def to_json_all(values: Iterable[Any]) -> list[str]:
    """Turn each value into JSON text, as :func:`to_json` does, at less cost a value.

    >>> to_json_all([{"a": 1}, None, b"x"])
    ['{"a":1}', 'null', '{"$bytes":"eA=="}']
    """
    values = list(values)
    try:
        texts = [orjson.dumps(value, _simpler, _OPTIONS) for value in values]
    except Exception:  # one of them is no plain value
        return [to_json(value) for value in values]
    together = b"".join(texts)
    if b"null" not in together and b'"$' not in together:
        return [text.decode() for text in texts]
    return [to_json(value) for value in values]


def from_json(text: str | bytes | None) -> Any:
    """Read what :func:`to_json` wrote; no text gives None."""
    if text is None or not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DamagedValue(error) from error
    marker = b'"$' if isinstance(text, bytes) else '"$'
    return _untagged(value) if marker in text else value  # type: ignore[operator]


def from_json_all(texts: Sequence[str | None]) -> list[Any]:
    """Read each text, as :func:`from_json` does, at less cost a text.

    >>> from_json_all(['{"a":1}', None, '{"$bytes":"eA=="}', ""])
    [{'a': 1}, None, b'x', None]
    """
    together = f"[{','.join([text or 'null' for text in texts])}]"
    if '"$' not in together:
        try:
            values: list[Any] = orjson.loads(together)
        except orjson.JSONDecodeError:
            return [from_json(text) for text in texts]  # one of them is no JSON: it is that which is told
        if len(values) == len(texts):
            return values
    return [from_json(text) for text in texts]


def clean(text: str) -> str:
    """Return ``text`` in a form that every database takes: no lone surrogates, no NUL.

    >>> clean("caf\\u00e9 \\ud800 \\x00")
    'café � �'
    """
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    return _SURROGATES.sub("\ufffd", text).replace("\x00", "\ufffd")


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}: its repr failed with {type(error).__name__}>"
    if len(text) > _LONGEST_REPR:
        text = text[:_LONGEST_REPR] + "…"
    return _SURROGATES.sub("\ufffd", text)


def _simpler(value: Any) -> Any:
    """Make one step towards plain JSON values."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return _in_order(value)
    if callable(getattr(value, "model_dump", None)) and not isinstance(value, type):
        return value.model_dump()
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return _repr(value)


def _in_order(values: Iterable[Any]) -> list[Any]:
    """Return a list; a set in a fixed order, so that equal values give equal text."""
    if isinstance(values, set | frozenset):
        try:
            return sorted(values)
        except TypeError:
            return sorted(values, key=repr)
    return list(values)


def _tagged(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return _SURROGATES.sub("\ufffd", value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if _INT_MIN <= value <= _INT_MAX else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if depth >= _DEEPEST:
        return _repr(value)
    if kind is dict:
        return _tagged_dict(value, depth)
    if kind is list or kind is tuple:
        return [_tagged(item, depth + 1) for item in value]
    if isinstance(value, bytearray | memoryview):
        return _tagged(bytes(value), depth)
    return _tagged(_simpler(value), depth + 1)


def _tagged_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    plain = all(type(key) is str for key in value)
    if plain and not (len(value) == 1 and next(iter(value)) in _TAGS):
        return {_SURROGATES.sub("\ufffd", key): _tagged(item, depth + 1) for key, item in value.items()}
    return {"$map": [[_tagged_key(key), _tagged(item, depth + 1)] for key, item in value.items()]}


def _tagged_key(key: Any) -> Any:
    while not (key is None or type(key) in (str, int, float, bool)):
        simpler = _simpler(key)
        key = simpler if simpler is None or type(simpler) in (str, int, float, bool) else _repr(key)
    return _tagged(key, 0)


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, held),) = value.items()
        if tag in _TAGS:
            try:
                return _opened(tag, held)
            except (TypeError, ValueError, binascii.Error):
                return value  # text of someone else that looks like a tag
    return {key: _untagged(item) for key, item in value.items()}


def _opened(tag: str, held: Any) -> Any:
    if tag == "$float":
        return float(held)
    if tag == "$int":
        return int(held, 16)
    if tag == "$bytes":
        return base64.b64decode(held, validate=True)
    return {_untagged(key): _untagged(item) for key, item in held}
