"""The wrapper in which the code of an attempt runs: ``python child.py SCRIPT FOLDER``.

| invariant | how |
|---|---|
| the user's code sees a plain ``__main__`` | a fresh module; ``sys.argv``, ``sys.path[0]`` as if run directly |
| nothing of the package is imported before it | this file is run by its path and uses the standard library only |
| reads are noted even if the process is shot | one line a file, appended to ``reads.jsonl`` as it is opened |
| a large seed, which is a link, is not written to | it is made a copy when the code opens it for writing |
| ``exit.json`` says how it ended | written last of all, after threads and exit handlers, and renamed into place |

The process that started this one need not be alive any more: everything is in the folder.
"""

# Importing pathlib would cost a third of the time that this file may take.
# ruff: noqa: PTH100, PTH103, PTH105, PTH108, PTH110, PTH113, PTH116, PTH118, PTH120, PTH123, PTH206
from __future__ import annotations

import atexit
import errno
import faulthandler
import gc
import json
import os
import sys
import time
import traceback
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
EXIT_FILE = "exit.json"
READS_FILE = "reads.jsonl"

#: How often the end is written again on a full disk when nobody else does, and the seconds between.
TRIES = 240
TRY_AGAIN = 0.5

#: Suffixes of files that are code or resources of a library, never data of the user.
CODE_SUFFIXES = tuple(".py .pyc .pyi .pyx .so .pyd .dll .dylib .pth .mplstyle .afm .ttf .otf .pem .crt".split())  # noqa: SIM905
#: Folders of caches and of a user's configuration.
PRIVATE_FOLDERS = {".cache", ".config", ".matplotlib", ".ipython", ".jupyter", ".git", "Caches"}
SYSTEM_ROOTS = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/share/", "/System/", "/Library/")
PACKAGE_DATA = os.path.join("cmbagent_nb", "datasets") + os.sep


class Reads:
    """Notes which files are opened for reading.

    A file of the attempt's folder is noted by its path there, a data set shipped with this
    package as ``package:cmbagent_nb/datasets/…``, any other data file by its absolute path.
    """

    def __init__(self, folder: str, script: str) -> None:
        self.inside = tuple({folder + os.sep, os.path.realpath(folder) + os.sep})
        self.script = script
        self.seen: set[str | bytes] = set()
        self.noted: list[str] = []
        self.active = True
        roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__), HERE}
        roots.update(path for path in sys.path if path.endswith("-packages"))
        roots.update([os.path.realpath(root) for root in roots])
        self.libraries = tuple(root + os.sep for root in roots if len(root) > 1)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self.descriptor = os.open(os.path.join(folder, READS_FILE), flags, 0o644)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self.active:
            return
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes)):
            return
        if _writes(mode, flags):
            self.unshare(os.fsdecode(path))
        if path in self.seen or not _reads(mode, flags):
            return
        self.seen.add(path)
        try:
            name = self.name(os.path.abspath(os.fsdecode(path)))
            if name is not None and name not in self.noted:
                self.noted.append(name)
                os.write(self.descriptor, json.dumps(name).encode() + b"\n")
        except (OSError, ValueError, RuntimeError):
            return  # a working folder that is gone, or a descriptor that the code closed: reading goes on unnoted

    def unshare(self, path: str) -> None:
        """Make a file that is shared with the step that made it a copy, before it is opened for writing."""
        try:
            path = os.path.abspath(path)
            if not path.startswith(self.inside) or os.stat(path).st_nlink < 2:
                return
            self.active = False
            import shutil  # takes as long as all other imports together, and is hardly ever needed

            temporary = f"{path}.{os.getpid()}.part"
            shutil.copy2(path, temporary)
            os.replace(temporary, path)
        except OSError:
            return  # not there yet, or not ours to copy: the launcher tells if it was changed
        finally:
            self.active = True

    def name(self, path: str) -> str | None:
        """Return what to note for an absolute ``path``, or None for a file that is no data of the user."""
        if "__pycache__" in path:
            folder, _, module = path.partition("__pycache__" + os.sep)
            path = folder + module.partition(".")[0] + ".py"
        for root in self.inside:
            if path.startswith(root):
                name = path[len(root) :].replace(os.sep, "/")
                own = name in (READS_FILE, EXIT_FILE, "stdout.txt", "stderr.txt") or path == self.script
                return None if own or not os.path.isfile(path) else name
        if PACKAGE_DATA in path and not path.endswith(CODE_SUFFIXES):
            return "package:" + path[path.rindex(PACKAGE_DATA) :].replace(os.sep, "/")
        if path.startswith(SYSTEM_ROOTS) or path.startswith(self.libraries) or path.lower().endswith(CODE_SUFFIXES):
            return None
        if PRIVATE_FOLDERS.intersection(path.split(os.sep)) or not os.path.isfile(path):
            return None
        return path.replace(os.sep, "/")


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(flags, int) and flags:
        return flags & 3 != os.O_RDONLY
    return isinstance(mode, str) and bool(set(mode) & set("wa+x"))


def _reads(mode: Any, flags: Any) -> bool:
    if isinstance(flags, int) and flags:
        return flags & 3 != os.O_WRONLY and not flags & os.O_TRUNC
    return mode is None or "r" in mode


def describe(error: BaseException, folder: str, script: str) -> dict[str, Any]:
    """Return type, message, line and file of an exception: the line is the last one in the user's own code."""
    line, name = None, None
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append((error.filename, error.lineno))
    for filename, number in frames:
        path = os.path.join(folder, filename)
        if path == script or path.startswith(folder + os.sep):
            line, name = number, os.path.relpath(path, folder).replace(os.sep, "/")
    try:
        message = str(error)
    except Exception as fault:
        message = f"(its text cannot be made: {type(fault).__name__})"
    return {"type": type(error).__name__, "message": message[:4000], "line": line, "file": name}


class Ending:
    """How the code ended; writes ``exit.json`` when the interpreter is about to go."""

    def __init__(self, folder: str, script: str, reads: Reads) -> None:
        self.folder, self.script, self.reads = folder, script, reads
        self.pid = os.getpid()
        self.parent = os.getppid()
        self.started_at = time.time()
        self.code = 0
        self.error: dict[str, Any] | None = None

    def write(self) -> None:
        if os.getpid() != self.pid:
            return  # a forked worker that leaves by the front door
        _flush()
        self.reads.active = False
        main = sys.modules.get("__main__")
        if main is not None:
            main.__dict__.clear()  # so that files left open are written before they are counted
            gc.collect()
        os.makedirs(self.folder, exist_ok=True)
        record = {
            "v": 1,
            "status": "completed" if self.code == 0 else "failed",
            "exit_code": self.code,
            "error": self.error,
            "started_at": self.started_at,
            "ended_at": time.time(),
            "pid": self.pid,
            "reads": list(self.reads.noted),
            "files": _manifest(self.folder),
        }
        for _ in range(TRIES):
            try:
                self._write(record)
                return
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
            if os.getppid() == self.parent:
                return  # it lives, and writes this itself when there is space again
            time.sleep(TRY_AGAIN)

    def _write(self, record: dict[str, Any]) -> None:
        temporary = os.path.join(self.folder, f".{EXIT_FILE}.{self.pid}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(record, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, os.path.join(self.folder, EXIT_FILE))
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise


def _manifest(folder: str) -> list[dict[str, Any]]:
    """List the folder's files with size and hash, by the same code as the one who started us uses."""
    import importlib.util

    place = os.path.join(os.path.dirname(HERE), "capture", "manifest.py")
    spec = importlib.util.spec_from_file_location("_cmbagent_manifest", place)
    if spec is None or spec.loader is None:
        return []
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return [
        {"path": entry.path, "size": entry.size, "mtime_ns": entry.mtime_ns, "sha256": entry.sha256}
        for entry in module.scan(folder).values()
    ]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # closed or replaced by the code


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def run(script: str, folder: str) -> None:
    """Run ``script`` as ``__main__`` in ``folder``; leave by the exit status that it asks for."""
    sys.path[0] = os.path.dirname(script)
    sys.argv = [script]
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    faulthandler.enable()
    with open(script, "rb") as file:
        source = file.read()
    reads = Reads(folder, script)
    ending = Ending(folder, script, reads)
    atexit.register(ending.write)
    main = types.ModuleType("__main__")
    main.__file__ = script
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    sys.addaudithook(reads)
    try:
        exec(compile(source, script, "exec"), main.__dict__)  # noqa: S102 - running this code is what we are for
    except SystemExit as error:
        ending.code = _exit_code(error)
        if ending.code:
            ending.error = describe(error, folder, script)
        raise
    except BaseException as error:
        ending.code = 1
        _drop_own_frames(error)
        ending.error = describe(error, folder, script)
        _flush()
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(1) from None


def _drop_own_frames(error: BaseException) -> None:
    """Take the frames of this file out of the traceback, so that it shows the user's code only."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace


if __name__ == "__main__":
    run(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]))
