"""Classifies the end of a process by its exit status, the recorded exception and its error output."""

from __future__ import annotations

import ast
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The status of code that was stopped, by the reason why.
LIMIT_STATUS = {"timeout": "timeout", "memory": "memory", "output": "failed", "killed": "killed"}

#: Characters of what code said when it ended itself that become its error's message.
MESSAGE = 500


@dataclass(frozen=True)
class Limits:
    """Limits of time, memory and output; 0 means no limit."""

    timeout_s: float = 3600.0
    memory_mb: float = 8000.0
    output_mb: float = 200.0


def judge(
    exit_code: int, error: dict[str, Any] | None, stderr: str, folder: Path, script: Path
) -> tuple[str, dict[str, Any] | None]:
    """Return the status of code that ended by itself, and its error: type, message, line and file.

    Parameters
    ----------
    exit_code
        As Python gives it: negative is the number of a signal.
    error
        The exception that was noted in the interpreter, if there was one.
    """
    if exit_code == 0:
        return "completed", None
    interrupted = error is not None and error.get("type") == "KeyboardInterrupt"
    if exit_code < 0 and not (interrupted and -exit_code == signal.SIGINT):
        name = _signal_name(-exit_code)
        from_outside = -exit_code in (signal.SIGTERM, getattr(signal, "SIGKILL", 9), signal.SIGINT)
        line, file = _fault_line(stderr, folder)
        message = f"the process was ended by signal {-exit_code} ({name})"
        status = "killed" if from_outside else "failed"
        return status, {"type": name, "message": message, "line": line, "file": file}
    return "failed", error if error is not None else _exit_error(exit_code, stderr, folder, script)


def limit_error(reason: str, limits: Limits, memory_mb: float, stderr: str, folder: Path) -> dict[str, Any]:
    """Return type, message, line and file for code that was stopped, as for an exception."""
    line, file = _fault_line(stderr, folder)
    kind, message = {
        "timeout": ("TimeoutError", f"the code ran longer than {limits.timeout_s:g} s and was stopped"),
        "memory": (
            "MemoryError",
            f"the code used {memory_mb:.0f} MB of memory, more than the {limits.memory_mb:g} MB allowed, "
            "and was stopped",
        ),
        "output": ("OutputLimit", f"the code printed more than {limits.output_mb:g} MB and was stopped"),
        "killed": ("Cancelled", "the run was cancelled and the code stopped"),
    }[reason]
    return {"type": kind, "message": message, "line": line, "file": file}


def _exit_error(exit_code: int, stderr: str, folder: Path, script: Path) -> dict[str, Any]:
    """Describe an exit that the code asked for: in its own words, and where, if only one place can be meant."""
    lines = stderr.strip().splitlines()
    said = lines[-1].strip()[:MESSAGE] if lines else ""
    message = said if said and exit_code == 1 else f"the process ended with exit status {exit_code}"
    line = _exit_line(script, exit_code, said)
    file = script.relative_to(folder).as_posix() if line and script.is_relative_to(folder) else None
    return {"type": "SystemExit", "message": message, "line": line, "file": file}


def _exit_line(script: Path, exit_code: int, said: str) -> int | None:
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    places: list[tuple[int, Any]] = []
    for node in ast.walk(tree):
        call = node if isinstance(node, ast.Call) else None
        name = ast.unparse(call.func) if call is not None else ""
        if call is not None and name in ("sys.exit", "exit", "quit", "SystemExit", "os._exit", "_exit"):
            places.append((call.lineno, call.args[0] if call.args else None))
    if len(places) == 1:
        return places[0][0]
    wanted: Any = said if exit_code == 1 and said else exit_code
    exact = [line for line, given in places if isinstance(given, ast.Constant) and given.value == wanted]
    return exact[0] if len(exact) == 1 else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _fault_line(stderr: str, folder: Path) -> tuple[int | None, str | None]:
    """Find the user's line in what faulthandler printed: the first frame there is the innermost."""
    for match in re.finditer(r'File "([^"]+)", line (\d+)', stderr):
        path = Path(match[1])
        if path.is_relative_to(folder):
            return int(match[2]), path.relative_to(folder).as_posix()
    return None, None
