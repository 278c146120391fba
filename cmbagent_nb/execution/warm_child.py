"""Forks supervised kernels from a process that has loaded their libraries: ``python warm_child.py``, driven over pipes.

One JSON object a line comes in and one goes out. A request for a start forks a supervisor in its own session, and it
forks the script's process; a request to reap returns the exit code. Both end with this process, and this process with
its owner or after :data:`IDLE_S` without a child. Imports nothing of the package but the supervisor, by its path.
"""

# pathlib is imported by the libraries anyway, but not before this folder has left the path
# ruff: noqa: PTH100, PTH118, PTH120, PTH123
import sys

del sys.path[0]  # this folder: its modules must not stand in for the code's

import importlib  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
from typing import Any  # noqa: E402

#: Seconds without a child after which this process ends.
IDLE_S = 120.0


def main() -> None:
    """Answer requests until the pipe is closed."""
    asked, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    importlib.import_module("ipykernel.kernelapp")
    supervisor = _supervisor()
    children: set[int] = set()
    buffer = b""
    while True:
        while b"\n" not in buffer:
            if not select.select([asked], [], [], IDLE_S)[0]:
                if not children:
                    return
                continue
            piece = os.read(asked, 65536)
            if not piece:
                _end(children)
                return
            buffer += piece
        line, _, buffer = buffer.partition(b"\n")
        request = json.loads(line)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            children.discard(request["reap"])
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            for name in request["imports"]:
                _load(name)
            pid = os.fork()
            if not pid:
                os.close(asked)
                os.close(answers)
                _supervise(request, supervisor)
            children.add(pid)
            answer = {"pid": pid}
        os.write(answers, json.dumps(answer).encode() + b"\n")


def _supervisor() -> Any:
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervisor.py")
    spec = importlib.util.spec_from_file_location("_cmbagent_supervisor", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(name: str) -> None:
    """Import a library; what cannot be imported is left for the code to fail at."""
    try:
        importlib.import_module(name)
    except Exception:
        return


def _end(children: set[int]) -> None:
    """Kill what runs: the owner has died."""
    import psutil

    for pid in children:
        try:
            below = psutil.Process(pid).children(recursive=True)
            os.killpg(pid, signal.SIGKILL)
            for process in below:
                process.kill()
        except (OSError, psutil.Error):
            continue


def _end_with_parent() -> None:
    """Have the system kill this process when its parent dies, where it can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def _supervise(request: dict[str, Any], supervisor: Any) -> None:
    """Become the supervisor of a script; does not return."""
    try:
        os.setsid()
        _end_with_parent()
        for number, name in ((1, request["stdout"]), (2, request["stderr"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["env"])
        script = request["script"]
        supervisor.run(script, request["folder"], request["record"], start=lambda: _start(script))
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        os._exit(126)


def _start(script: str) -> int:
    """Fork a process that runs the script as ``__main__``; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        _end_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _as_if_new()
        sys.argv = [script]
        with open(script, encoding="utf-8") as file:
            code = compile(file.read(), script, "exec")
        exec(code, {"__name__": "__main__", "__file__": script})  # noqa: S102 # the script that was asked for
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(status & 0xFF)


def _as_if_new() -> None:
    """Set what libraries read when they are imported: their state must not be that of another execution."""
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()  # else all forks would draw the same numbers
    matplotlib: Any = sys.modules.get("matplotlib")
    if matplotlib is not None and os.environ.get("MPLBACKEND"):
        matplotlib.rcParams["backend"] = os.environ["MPLBACKEND"]


if __name__ == "__main__":
    main()
