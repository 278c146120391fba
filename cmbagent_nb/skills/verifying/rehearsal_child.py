"""The process that tries a notebook's cells with other values, driven over its pipes.

It loads the libraries that the cells import once, and forks for each try: a try begins in a second-hand interpreter
that has imported and done nothing, in its own folder, and leaves nothing behind. The cells are run by IPython's shell,
so that magics work and what a cell displays is kept as a kernel would show it. One JSON object a line comes in and one
goes out. This file is run by its path and imports nothing of the package.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import signal
import sys
import time
import traceback
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
    shell = _shell()
    trees = [_tree(shell, cell["source"]) for cell in cells]
    _load_libraries(trees)
    _say(replies, {"ready": True})
    for line in sys.stdin:
        _say(replies, _attempt(json.loads(line), cells, shell))


def _say(replies: TextIO, answer: dict[str, Any]) -> None:
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def _shell() -> Any:
    """Return IPython's shell without history, start-up files or a terminal; what it displays is collected."""
    displayhook: Any = importlib.import_module("IPython.core.displayhook")
    displaypub: Any = importlib.import_module("IPython.core.displaypub")
    history: Any = importlib.import_module("IPython.core.history")
    interactive: Any = importlib.import_module("IPython.core.interactiveshell")

    class Hook(displayhook.DisplayHook):  # type: ignore[misc] # IPython is looked up late
        """Collects the values of last lines in place of printing them."""

        def __call__(self, result: Any = None) -> None:
            if result is None or self.quiet():
                return
            data, metadata = self.shell.display_formatter.format(result)
            if data:
                self.shell.display_pub.outputs.append({"data": data, "metadata": metadata, "value": True})
            self.update_user_ns(result)

    history.HistoryManager.enabled = False
    shell = interactive.InteractiveShell.instance(
        displayhook_class=Hook, display_pub_class=displaypub.CapturingDisplayPublisher
    )
    shell._showtraceback = lambda *_args: None  # a failure is told by its file
    return shell


def _tree(shell: Any, source: str) -> ast.Module:
    """Return a cell as a tree, its magics included."""
    text: str = shell.transform_cell(source)
    return ast.parse(text)


def _load_libraries(trees: list[ast.Module]) -> None:
    """Import what the cells will import; what is not to be had is left for them to fail at."""
    names: list[str] = []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
    for name in dict.fromkeys(names):
        try:
            importlib.import_module(name)
        except Exception as error:
            sys.stderr.write(f"{name}: {error}\n")


def _attempt(wanted: dict[str, Any], cells: list[dict[str, Any]], shell: Any) -> dict[str, Any]:
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
        status, error = _in_a_fork(wanted, shell, cells, group, deadline)
        if status != "completed":
            break
    return {"status": status, "error": error, "duration_s": time.monotonic() - started}


def _in_a_fork(
    wanted: dict[str, Any], shell: Any, cells: list[dict[str, Any]], group: list[int], deadline: float
) -> tuple[str, str]:
    error_file = wanted["printed"] + ".error"
    pid = os.fork()
    if pid == 0:
        _run(wanted, shell, [(number, cells[number]) for number in group], error_file)
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


def _run(wanted: dict[str, Any], shell: Any, group: list[tuple[int, dict[str, Any]]], error_file: str) -> None:
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
        output = os.open(wanted["printed"], os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        sys.argv = ["notebook"]
        with Path(wanted["printed"] + ".shown").open("a", encoding="utf-8") as shown:
            for number, cell in group:
                before = os.fstat(output).st_size
                _one(shell, cell)
                sys.stdout.flush()
                printed = os.pread(output, os.fstat(output).st_size - before, before).decode("utf-8", "replace")
                displayed = _displayed(shell)
                shown.write(
                    json.dumps({"cell": number, "printed": printed, "displayed": displayed}, default=str) + "\n"
                )
                if cell["parameters"]:
                    shell.user_ns.update(wanted["parameters"])
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


def _one(shell: Any, cell: dict[str, Any]) -> None:
    """Run one cell; raise what it raises, unless it says that it may."""
    result = shell.run_cell(cell["source"], store_history=False)
    error = result.error_before_exec or result.error_in_exec
    if error is not None and not cell.get("may_fail"):
        raise error


def _displayed(shell: Any) -> list[dict[str, Any]]:
    """Return what the cell displayed, and forget it."""
    found = [
        {"type": "execute_result" if item.get("value") else "display_data", "data": _plain(item["data"])}
        for item in shell.display_pub.outputs
    ]
    shell.display_pub.outputs.clear()
    return found


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return a display's representations as a notebook holds them: pictures in base64."""
    import base64

    return {
        mime: base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        for mime, value in data.items()
    }


if __name__ == "__main__":
    main()
