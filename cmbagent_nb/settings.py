"""Reads settings: from the environment, then the workspace's ``config.toml``, then the defaults.

A setting ``name`` is read from ``CMBAGENT_NAME``; :meth:`Settings.sources` tells where each
value came from, which is what ``%cmbagent config`` shows.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import SettingsError, UsageError

PREFIX = "CMBAGENT_"
#: The largest number that a setting can be, and the longest text that is read as one.
_LARGEST_NUMBER = 1e12
_LONGEST_NUMBER = 40
#: The most characters of a path that an error quotes.
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. Durations are in seconds, memory in megabytes."""

    model: str = "auto"
    session: str = "default"
    approve: str = ""
    gates: str = ""
    database_url: str = ""
    base_url: str = ""
    capture: bool = True
    max_attempts: int = 3
    parallel_steps: int = 3
    max_plan_steps: int = 10
    n_plan_reviews: int = 1
    step_timeout: float = 3600.0
    step_memory_mb: int = 8000
    call_timeout: float = 600.0
    first_byte_timeout: float = 300.0
    max_cost_usd: float = 0.0
    checkpoint_minutes: float = 10.0
    context_tokens: int = 12_000
    context_keep: int = 3
    archive_days: float = 90.0
    agents_dir: str = ""
    pass_env: str = ""
    starter_skills: bool = True
    skill_mode: str = "manual"
    skill_min_similarity: float = 0.7
    skill_auto_similarity: float = 0.75
    embeddings: str = "auto"
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)


#: Names that can be set, in the order in which they are shown.
NAMES = tuple(item.name for item in fields(Settings) if item.name != "sources")

HELP = {
    "model": "provider:name, playbook:NAME or auto",
    "session": "the session that new runs belong to",
    "approve": "gates that open without --approve, such as plan,error",
    "gates": "answers gates without a person: approve, reject or default",
    "database_url": "a PostgreSQL URL; empty means SQLite in the workspace",
    "base_url": "the URL of an OpenAI-compatible server",
    "capture": "record messages and fine-grained events",
    "max_attempts": "attempts at a step before it fails",
    "parallel_steps": "steps that may run at once",
    "max_plan_steps": "the most steps that a plan may have",
    "n_plan_reviews": "reviews of a plan before it is used",
    "step_timeout": "seconds that the code of a step may run",
    "step_memory_mb": "megabytes that the code of a step may use",
    "call_timeout": "seconds that a model call may take",
    "first_byte_timeout": "seconds until a model's server sends its first byte; 0 means no limit",
    "max_cost_usd": "US dollars that a run may cost; 0 means no limit",
    "checkpoint_minutes": "minutes between two checkpoints of a run in which something changed",
    "context_tokens": "tokens of the context from earlier steps in a step of a deep run",
    "context_keep": "the newest steps that a deep run tells of as they are; those before are summarized",
    "archive_days": "days after its end until `cmbagent archive` moves a run's rows out of the database",
    "agents_dir": "a folder with agents of your own, as YAML",
    "pass_env": "more environment variables for the code of steps and skills, by name or pattern, such as MYDATA_*",
    "skill_mode": "off, manual (skills run when they are named) or auto (the best match is looked for at each start)",
    "skill_min_similarity": "score from which a skill counts as fitting a task, 0 to 1",
    "skill_auto_similarity": "score from which a verified and trusted skill runs without being asked about, 0 to 1",
    "embeddings": "what compares the meaning of texts: auto, onnx, torch, or tfidf for words alone",
    "starter_skills": "put the skills that come with the package into the library at the first look at it",
}


def user_path(text: str | Path, what: str = "") -> Path:
    """Return a path that a user gave as an absolute one, ``~`` and ``~user`` expanded.

    Raises
    ------
    UsageError
        There is no such user, or no file can have this name; ``what`` says what the path was given for.
    """
    quoted = repr(str(text))
    shown = f"{what} {quoted if len(quoted) <= _LONGEST_SHOWN else quoted[:_LONGEST_SHOWN] + '…'}".strip()
    try:
        path = Path(text).expanduser().absolute()
        os.fsencode(path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
            path.lstat()  # a name that is too long raises here
    except RuntimeError:
        user = Path(text).parts[0]
        raise UsageError(
            f"the path {shown} cannot be used: no home folder is known for {user}",
            "Write the whole path.",
            path=str(text),
        ) from None
    except (UnicodeEncodeError, TypeError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageError(f"the path {shown} cannot be used: {why}", "Choose another path.", path=str(text)) from None
    if "\0" in str(path):
        raise UsageError(f"the path {shown} cannot be used: it holds a null character", "Choose another path.")
    return path


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the user's workspace: ``CMBAGENT_HOME``, else the platform's data folder."""
    environ = os.environ if environ is None else environ
    if environ.get("CMBAGENT_HOME"):
        return user_path(environ["CMBAGENT_HOME"], "CMBAGENT_HOME")
    import platformdirs

    return Path(platformdirs.user_data_dir("cmbagent_nb", appauthor=False))


def load_settings(home: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings for the workspace in ``home``.

    Raises
    ------
    SettingsError
        A value, or the file itself, cannot be read; the error names the variable or the line.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    sources = dict.fromkeys(NAMES, "default")
    path = home / "config.toml"
    for name, value in _read_file(path).items():
        if name not in NAMES:
            raise SettingsError(
                f"{path} has an unknown setting {name!r}",
                f"Known settings are {', '.join(NAMES)}.",
                name=name,
            )
        values[name] = _convert(name, value, str(path))
        sources[name] = str(path)
    for name in NAMES:
        variable = PREFIX + name.upper()
        if environ.get(variable, "") != "":
            values[name] = _convert(name, environ[variable], f"the variable {variable}")
            sources[name] = variable
    for name, value in values.items():
        if isinstance(value, str) and "://" in value:
            from cmbagent_nb.redaction import redactor

            redactor().learn(name.upper(), value)
    return Settings(**values, sources=sources)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error})", "Correct or remove the file.") from error
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SettingsError(f"{path} is nested too deeply", "Correct or remove the file.") from None
    except ValueError as error:  # not TOML, or a number or a date that Python has none for
        raise SettingsError(f"{path} is not valid TOML: {error}", "Correct or remove the file.") from error


def _convert(name: str, value: Any, where: str) -> Any:
    kind = type(getattr(Settings, name))
    try:
        if kind is bool:
            return _truth(value)
        if kind in (int, float):
            return check_number(value, kind)
        if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
            return ",".join(str(item) for item in value)
        if not isinstance(value, str | int | float):
            raise TypeError(value)
        return str(value)
    except (TypeError, ValueError, OverflowError):
        raise SettingsError(
            f"{where} sets {name} to {value!r}, which is not {_kind_text(kind)}",
            f"It is: {HELP[name]}.",
            name=name,
        ) from None


def check_number(value: Any, kind: type[int] | type[float]) -> int | float:
    """Return a number of 0 or more that a setting can be; a text is read as one.

    >>> check_number("3", int), check_number(2, float)
    (3, 2.0)

    Raises
    ------
    ValueError
        It is none: negative, not finite, not whole where that is needed, or so large that no computer counts so far.
    """
    if isinstance(value, bool) or (isinstance(value, str) and len(value) > _LONGEST_NUMBER):
        raise ValueError(value)
    number = float(value)
    if not 0 <= number <= _LARGEST_NUMBER:  # NaN is in no range
        raise ValueError(value)
    if kind is float:
        return number
    if not number.is_integer():
        raise ValueError(value)
    return int(value) if isinstance(value, int) else int(number)


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ValueError(value)


def _kind_text(kind: type) -> str:
    return {bool: "yes or no", int: "a whole number of 0 or more", float: "a number of 0 or more"}.get(kind, "a text")
