"""The process that tries a notebook's cells with other values, driven over its pipes.

It loads the libraries that the cells import once, and forks for each try: a try begins in a second-hand interpreter
that has imported and done nothing, in its own folder, and leaves nothing behind. One JSON object a line comes in and
one goes out. This file is run by its path and imports nothing of the package.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import builtins
import importlib
import inspect
import json
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any, TextIO

#: Seconds between two looks at a try.
_LOOK = 0.005


def main() -> None:
    """Read the cells, then a try a line, until the pipe is closed."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    cells = json.loads(sys.stdin.readline())["cells"]
    codes = _compiled([cell["source"] for cell in cells])
    _load_libraries([cell["source"] for cell in cells])
    _say(replies, {"ready": True})
    for line in sys.stdin:
        _say(replies, _attempt(json.loads(line), cells, codes))


def _say(replies: TextIO, answer: dict[str, Any]) -> None:
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def _compiled(sources: list[str]) -> list[types.CodeType]:
    """Compile the cells; as in a notebook, what one takes from ``__future__`` holds for those after it."""
    flags, codes = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, []
    for number, source in enumerate(sources):
        code = compile(source, f"<cell {number}>", "exec", flags=flags, dont_inherit=True)
        flags |= code.co_flags & __future__.annotations.compiler_flag
        codes.append(code)
    return codes


def _load_libraries(sources: list[str]) -> None:
    """Import what the cells will import; what is not to be had is left for them to fail at."""
    names: list[str] = []
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
    for name in dict.fromkeys(names):
        try:
            importlib.import_module(name)
        except Exception as error:
            sys.stderr.write(f"{name}: {error}\n")


def _attempt(wanted: dict[str, Any], cells: list[dict[str, Any]], codes: list[types.CodeType]) -> dict[str, Any]:
    """Run all cells with other values; cells that ask for a fresh process get one."""
    started = time.monotonic()
    deadline = started + wanted["timeout_s"]
    groups: list[list[int]] = [[]]
    for number, cell in enumerate(cells):
        if cell["fresh"]:
            groups.append([other for other in range(number) if cells[other]["preamble"]])
        groups[-1].append(number)
    status, error = "completed", ""
    for group in groups:
        status, error = _in_a_fork(wanted, [codes[number] for number in group], cells, group, deadline)
        if status != "completed":
            break
    return {"status": status, "error": error, "duration_s": time.monotonic() - started}


def _in_a_fork(
    wanted: dict[str, Any], codes: list[types.CodeType], cells: list[dict[str, Any]], group: list[int], deadline: float
) -> tuple[str, str]:
    error_file = wanted["printed"] + ".error"
    pid = os.fork()
    if pid == 0:
        _run(wanted, codes, [cells[number]["parameters"] for number in group], error_file)
    while True:
        done, state = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            _kill(pid)
            os.waitpid(pid, 0)
            return "timeout", "it ran longer than it may"
        time.sleep(_LOOK)
    _kill(pid)  # what it started and left
    if os.waitstatus_to_exitcode(state) == 0:
        return "completed", ""
    try:
        return "failed", Path(error_file).read_text(encoding="utf-8")
    except OSError:
        return "failed", "the process died"


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return


def _run(wanted: dict[str, Any], codes: list[types.CodeType], has_parameters: list[bool], error_file: str) -> None:
    """Run cells in this process, which ends with them."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(wanted["folder"])
        sys.path.insert(0, "")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # what the code asks for must not come from our pipe
        sys.stdin = os.fdopen(os.dup(0), encoding="utf-8")
        # Only what is printed is kept: warnings go elsewhere.
        output = os.open(wanted["printed"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        sys.argv = ["notebook"]
        module = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = module
        for code, parameters in zip(codes, has_parameters, strict=True):
            made = types.FunctionType(code, module.__dict__)()
            if inspect.iscoroutine(made):
                asyncio.run(made)
            if parameters:
                module.__dict__.update(wanted["parameters"])
        status = 0
    except BaseException as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        Path(error_file).write_text(text[-2000:], encoding="utf-8", errors="replace")
        status = 0 if isinstance(error, SystemExit) and error.code in (None, 0) else 1
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(status)


if __name__ == "__main__":
    main()
