"""Code sees what it would see under ``python file.py``: each script runs both ways, and must print and end alike."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cmbagent_nb.execution.attempt_folder import prepare
from cmbagent_nb.execution.environment import child_environment
from cmbagent_nb.execution.launcher import Limits, Outcome, launch
from cmbagent_nb.execution.marks import VARIABLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "work", "step_1", 1)


def both(folder: Path, code: str) -> tuple[Outcome, subprocess.CompletedProcess[str]]:
    """Run code as a step's and as a person would."""
    script = folder / "codebase" / "script.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    environment = child_environment({"MPLBACKEND": "Agg", "PYTHONUTF8": "1", VARIABLE: "run:attempt:folder"})
    plain = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return asyncio.run(launch(script, folder, limits=Limits(timeout_s=120))), plain


SEEN = {
    "annotations are types": """
        from dataclasses import dataclass, fields
        @dataclass
        class Config:
            h0: float
            lmax: int = 2
        raw = {"h0": "67.4", "lmax": "2500"}
        print(Config(**{f.name: f.type(raw[f.name]) for f in fields(Config)}))
    """,
    "compiler flags": """
        import sys
        print(sys._getframe().f_code.co_flags, compile("x: y = 1", "s", "exec").co_flags)
        def f(x: int) -> "str": pass
        print(f.__annotations__, __annotations__ if "__annotations__" in dir() else None)
    """,
    "own future import": """
        from __future__ import annotations
        def f(x: Undefined): pass
        print(f.__annotations__, annotations)
    """,
    "names of the module": """
        import sys
        print(sorted(globals()), __name__, __doc__, __package__, __spec__, type(__loader__).__name__, __file__)
        print(type(__builtins__).__name__, sys.modules["__main__"].__dict__ is globals())
    """,
    "the command line": """
        import sys
        print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.warnoptions, sorted(sys._xoptions))
    """,
    "the environment": "import os; os.environ.pop('CMBAGENT_ATTEMPT'); print(sorted(os.environ.items()))",
    "modules that are loaded": """
        import sys
        print(sorted(name for name in sys.modules if name != "faulthandler"))
    """,
    "submodules that nobody imported": """
        import importlib
        print(hasattr(importlib, "util"), "json" in __import__("sys").modules)
        importlib.util
    """,
    "the stack": """
        import inspect, sys, traceback
        print(len(inspect.stack()), sys._getframe().f_back)
        traceback.print_stack(file=sys.stdout)
        sys._getframe(1)
    """,
    "recursion": """
        import sys
        depth = 0
        def f():
            global depth
            depth += 1
            f()
        try:
            f()
        except RecursionError:
            print(depth, sys.getrecursionlimit())
    """,
    "source": """
        import inspect, linecache
        def area(r):
            "Return an area."
            return 3 * r * r
        print(inspect.getsource(area), inspect.getsourcefile(area), linecache.getline(__file__, 2))
        print(inspect.getmodule(area), inspect.getsource(inspect.getmodule(area)))
    """,
    "pickling": """
        import pickle, sys
        class Thing:
            def __eq__(self, other): return type(self) is type(other)
        print(pickle.loads(pickle.dumps(Thing())) == Thing(), Thing.__module__, pickle.dumps(Thing)[:40])
    """,
    "a traceback": """
        import json

        def read(text):
            return json.loads(text)

        try:
            read("{")
        except ValueError as error:
            raise RuntimeError("no data") from error
    """,
    "a syntax error": "x = (1,\n  2\ny = 3\n",
    "an exception group": "raise ExceptionGroup('both', [ValueError(1), KeyError('a')])",
    "a hook of one's own": """
        import sys
        sys.excepthook = lambda kind, value, trace: print("mine", kind.__name__, value, sys.last_value is value)
        1 / 0
    """,
    "interrupt": "raise KeyboardInterrupt",
    "exit with text": "import sys; sys.exit('no data for l > 2500')",
    "exit with a number": "import sys; sys.exit(3)",
    "exit with None": "import sys; sys.exit()",
    "exit with 256": "import sys; sys.exit(256)",
    "exit with 300": "raise SystemExit(300)",
    "exit below zero": "import sys; sys.exit(-1)",
    "exit with a list": "import sys; sys.exit([1, 2])",
    "exit with True": "import sys; sys.exit(True)",
    "exit of the site module": "quit(4)",
    "hard exit": "import os; print('x', flush=True); os._exit(7)",
    "abort": "import os; os.abort()",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "atexit": """
        import atexit
        atexit.register(print, "first registered")
        @atexit.register
        def last(): print("last registered", __name__, value)
        value = 42
    """,
    "a failing atexit": "import atexit; atexit.register(lambda: 1 / 0); print('done')",
    "a thread that goes on": """
        import threading, time
        def work():
            gate.wait(5)
            time.sleep(0.2)
            print("thread", threading.main_thread().is_alive(), value)
        gate = threading.Event()
        threading.Thread(target=work).start()
        value = 1
        gate.set()
        print("main ends")
    """,
    "a thread that fails": """
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start()
        thread.join()
        print("goes on")
    """,
    "warnings": """
        import warnings
        def old(): warnings.warn("use new", DeprecationWarning, stacklevel=2)
        old()
        warnings.warn("at the top", stacklevel=1)
        warnings.warn("beyond the top", stacklevel=2)
        warnings.warn("far beyond", stacklevel=5)
        print(warnings.filters)
    """,
    "standard input": """
        import sys
        print(sys.stdin.isatty(), sys.stdin.read() == "", sys.stdin.encoding)
        input("name? ")
    """,
    "file descriptors": "print(open(__file__).fileno(), __import__('os').listdir('/proc/self/fd').__len__())",
    "spawn": """
        import multiprocessing as mp
        def square(x): return x * x
        if __name__ == "__main__":
            with mp.get_context("spawn").Pool(2) as pool:
                print(pool.map(square, range(4)))
        else:
            assert __name__ == "__mp_main__", __name__
    """,
    "forkserver": """
        import multiprocessing as mp
        def square(x): return x * x
        if __name__ == "__main__":
            with mp.get_context("forkserver").Pool(2) as pool:
                print(pool.map(square, range(4)))
    """,
    "spawn without a guard": """
        import multiprocessing as mp
        mp.set_start_method("spawn")
        p = mp.Process(target=print, args=("never",))
        p.start()
        p.join()
        print(p.exitcode)
    """,
    "process pool": """
        from concurrent.futures import ProcessPoolExecutor
        import os
        def f(x): return x + 1
        if __name__ == "__main__":
            with ProcessPoolExecutor(2) as pool:
                print(list(pool.map(f, [1, 2, 3])))
    """,
    "shared memory that is left": """
        from multiprocessing import shared_memory
        block = shared_memory.SharedMemory(create=True, size=10)
        block.buf[0] = 1
        print("left")
    """,
    "a child of the same interpreter": """
        import subprocess, sys
        code = "import sys, os; print(sys.path[1:], os.environ.get('PYTHONPATH'), 'sitecustomize' in sys.modules)"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    """,
    "a signal that a pipe needs": """
        import subprocess
        print(subprocess.run("yes | head -n 1", shell=True, capture_output=True, text=True), flush=True)
        import os
        print(os.system("yes | head -n 1"))
    """,
    "typing of the own module": """
        import typing
        class Node:
            next: "Node"
        print(typing.get_type_hints(Node))
    """,
    "runpy of oneself": """
        import runpy, sys
        if __name__ == "__main__":
            print(runpy.run_path(__file__, run_name="other")["VALUE"])
        VALUE = 5
    """,
    "executed again": """
        import os, sys
        if os.environ.get("AGAIN") is None:
            os.environ["AGAIN"] = "1"
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, *sys.argv])
        print("again", sys.argv)
    """,
    "main is deleted": "import sys; del sys.modules['__main__']; print('gone')",
    "output that is closed": "import sys; print('x'); sys.stdout.close(); sys.stderr.close()",
    "a file named like a module": "import json, traceback; open('codebase/json.py', 'w'); print(json.__name__)",
}

#: What may differ: process ids, addresses, durations.
_OWN = re.compile(r"0x[0-9a-f]+|\b(?:Process-|ForkProcess-|pid )?\d{3,7}(?=\)|:)")


@pytest.mark.parametrize("code", SEEN.values(), ids=SEEN.keys())
def test_it_is_as_under_python(folder: Path, code: str) -> None:
    ours, plain = both(folder, code)
    assert _OWN.sub("", ours.stdout) == _OWN.sub("", plain.stdout)
    assert ours.exit_code == plain.returncode
    if plain.returncode != -6:  # faulthandler says where an abort came from
        assert _OWN.sub("", ours.stderr) == _OWN.sub("", plain.stderr)


def test_a_sitecustomize_of_the_user_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's own start-up file is loaded as without ours, from where PYTHONPATH says."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text("import sys; sys.started = __file__\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))
    ours, plain = both(folder, "import os, sys; print(sys.started, sys.path, os.environ['PYTHONPATH'])")
    assert ours.stdout == plain.stdout and str(tmp_path) in ours.stdout
    ours, plain = both(folder, "import sys, sitecustomize; print(sitecustomize.__file__, sitecustomize.__spec__)")
    assert _OWN.sub("", ours.stdout) == _OWN.sub("", plain.stdout) and str(tmp_path) in ours.stdout


def test_reads_go_on_being_noted_when_code_closes_every_descriptor(folder: Path) -> None:
    """What the code writes to a descriptor of a number that we had once is not mixed with our notes."""
    (folder / "input" / "a.txt").write_text("a")
    (folder / "input" / "b.txt").write_text("b")
    ours, _ = both(
        folder,
        """
        import os
        open("input/a.txt").read()
        os.closerange(3, 100)
        mine = os.open("data/mine.bin", os.O_WRONLY | os.O_CREAT)
        open("input/b.txt").read()
        os.write(mine, b"only this")
        """,
    )
    assert ours.status == "completed", ours.stderr
    assert (folder / "data" / "mine.bin").read_bytes() == b"only this"
    assert set(ours.reads) == {"input/a.txt", "input/b.txt"}


def test_code_whose_neighbour_has_the_name_of_a_standard_module(folder: Path) -> None:
    """``codebase/json.py`` is the code's own: it neither disturbs our notes nor hides how the code failed."""
    for name in ("json.py", "traceback.py", "shutil.py"):
        (folder / "codebase" / name).write_text("VALUE = 1\n")
    ours, plain = both(folder, "import json\nprint(json.VALUE)\nraise ValueError('bad')\n")
    assert (ours.stdout, ours.exit_code) == (plain.stdout, 1)
    assert ours.error is not None and ours.error["message"] == "bad"
    assert ours.error["line"] == 3
