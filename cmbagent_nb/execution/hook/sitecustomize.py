"""Notes what a script reads and how it fails, inside the interpreter that runs it as ``python SCRIPT``.

The interpreter loads this file at its start because its folder is the first of ``PYTHONPATH``. It adds an audit hook
and removes its traces before the script begins: the script runs as ``__main__`` without a frame of ours below it.

| invariant | how |
|---|---|
| the script sees a plain interpreter | our folder, variable and module are gone, and nothing else is loaded |
| a ``sitecustomize`` of the user runs as well | it is looked for on the rest of the path |
| reads are noted even if the process is killed | one name a file, appended as it is opened |
| a large seed, which is a link, is not written to | it is made a copy when the code opens it for writing |
| the exception is known whole | it is written when the interpreter is about to print it |
"""

# pathlib, json and traceback would be imported before the script, which could tell.
# ruff: noqa: PTH100, PTH105, PTH108, PTH110, PTH113, PTH116, PTH118, PTH120, PTH206
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The variable with the record folder, the attempt's folder and the script, one a line; set by the supervisor.
VARIABLE = "CMBAGENT_HOOK"
READS_FILE = "reads"
ERROR_FILE = "error.json"

#: Characters of an exception's message, and of its traceback, that are kept.
MESSAGE = 4000
TRACEBACK = 60_000

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

    def __init__(self, record: str, folder: str, script: str) -> None:
        self.inside = tuple({folder + os.sep, os.path.realpath(folder) + os.sep})
        self.scripts = (script, os.path.realpath(script))
        self.record = os.path.join(record, READS_FILE)
        #: Our own files, also where the folder is reached by a link.
        self.own = tuple({record + os.sep, os.path.realpath(record) + os.sep})
        self.seen: set[str | bytes] = {self.record}
        self.noted: set[str] = set()
        self.active = True
        roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__)}
        roots.update(path for path in sys.path if path.endswith("-packages"))
        roots.update([os.path.realpath(root) for root in roots])
        self.libraries = tuple(root + os.sep for root in roots if len(root) > 1)

    def opened(self, path: "Any", mode: "Any", flags: "Any") -> None:
        """Note a file that is opened for reading; copy a shared one that is opened for writing."""
        if not self.active or not isinstance(path, (str, bytes)):
            return
        if _writes(mode, flags):
            self.unshare(os.fsdecode(path))
        if path in self.seen or not _reads(mode, flags):
            return
        self.seen.add(path)
        name = self.name(os.path.abspath(os.fsdecode(path)))
        if name is not None and name not in self.noted:
            self.noted.add(name)
            # Opened anew for each: a descriptor that stays open is one that the code can see, close and use again.
            _append(self.record, os.fsencode(name) + b"\0")

    def unshare(self, path: str) -> None:
        """Make a file that is shared with the step that made it a copy, before it is opened for writing."""
        try:
            path = os.path.realpath(path)
            if not path.startswith(self.inside) or os.stat(path).st_nlink < 2:
                return
            self.active = False
            import shutil  # takes as long as all other imports together, and is hardly ever needed

            temporary = os.path.join(os.path.dirname(path), f".cmbagent-{os.getpid()}.part")
            shutil.copy2(path, temporary)
            os.replace(temporary, path)
        except OSError:
            return  # not there yet, or not ours to copy: the launcher tells if it was changed
        finally:
            self.active = True

    def name(self, path: str) -> "str | None":
        """Return what to note for an absolute ``path``, or None for a file that is not the user's data."""
        if "__pycache__" in path:
            folder, _, module = path.partition("__pycache__" + os.sep)
            path = folder + module.partition(".")[0] + ".py"
        if path.startswith(self.own):
            return None
        for root in self.inside:
            if path.startswith(root):
                return (
                    None if path in self.scripts or not os.path.isfile(path) else path[len(root) :].replace(os.sep, "/")
                )
        if PACKAGE_DATA in path and not path.endswith(CODE_SUFFIXES):
            return "package:" + path[path.rindex(PACKAGE_DATA) :].replace(os.sep, "/")
        if path.startswith(SYSTEM_ROOTS) or path.startswith(self.libraries) or path.lower().endswith(CODE_SUFFIXES):
            return None
        if PRIVATE_FOLDERS.intersection(path.split(os.sep)) or not os.path.isfile(path):
            return None
        return path.replace(os.sep, "/")


def _append(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _writes(mode: "Any", flags: "Any") -> bool:
    if isinstance(flags, int) and flags:
        return flags & 3 != os.O_RDONLY
    return isinstance(mode, str) and bool(set(mode) & set("wa+x"))


def _reads(mode: "Any", flags: "Any") -> bool:
    if isinstance(flags, int) and flags:
        return flags & 3 != os.O_WRONLY and not flags & os.O_TRUNC
    return mode is None or "r" in mode


def describe(error: BaseException, trace: "Any", folder: str) -> "dict[str, Any]":
    """Return type, message, line and file of an exception: the line is the last one in the user's own code."""
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append((error.filename, error.lineno))
    line, name = None, None
    for filename, number in frames:
        path = os.path.join(folder, filename)
        if path.startswith(folder + os.sep):
            line, name = number, os.path.relpath(path, folder).replace(os.sep, "/")
    try:
        message = str(error)
    except BaseException as other:  # what the code's own __str__ raises must not take our place
        message = f"<no message: {type(other).__name__} in __str__>"
    return {"type": type(error).__name__, "message": _short(message, MESSAGE), "line": line, "file": name}


def _short(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def _as_json(about: "dict[str, Any]") -> str:
    """Return texts, numbers and None as JSON, without a module whose name the code may have taken."""
    from _json import encode_basestring_ascii as quoted

    parts = []
    for name, value in about.items():
        text = "null" if value is None else quoted(value) if isinstance(value, str) else str(value)
        parts.append(f"{quoted(name)}: {text}")
    return "{" + ", ".join(parts) + "}"


class Hook:
    """The audit hook."""

    def __init__(self, record: str, folder: str, script: str) -> None:
        self.record, self.folder = record, folder
        self.pid = os.getpid()
        self.begun = False
        self.reads = Reads(record, folder, script)

    def __call__(self, event: str, arguments: "tuple[Any, ...]") -> None:
        try:
            if event == "open":
                if self.begun:
                    self.reads.opened(*arguments)
            elif event == "sys.excepthook":
                self.failed(arguments[2], arguments[3])
            elif event == "cpython.run_file" and not self.begun:
                self.begun = True
                if getattr(sys.modules.get("sitecustomize"), "__file__", None) == __file__:
                    del sys.modules["sitecustomize"]
        except Exception:
            return  # nothing of this may ever disturb the code: a read stays unnoted

    def failed(self, error: BaseException, trace: "Any") -> None:
        """Write the exception that ends the script; one in a forked worker is the worker's."""
        if os.getpid() != self.pid or not isinstance(error, BaseException):
            return
        self.reads.active = False
        try:
            about = describe(error, trace, self.folder)
            about["traceback"] = _short(self.formatted(error, trace), TRACEBACK)
            path = os.path.join(self.record, ERROR_FILE)
            if os.path.exists(path):
                os.unlink(path)
            _append(path, _as_json(about).encode())
        finally:
            self.reads.active = True

    def formatted(self, error: BaseException, trace: "Any") -> str:
        """Return the traceback as text; empty where a module of the code has taken the name of one that this needs."""
        if isinstance(error, KeyboardInterrupt):
            return ""  # what an import evaluates makes the interpreter forget that it must end by the signal
        path = sys.path[:]
        try:
            sys.path[:] = [entry for entry in path if not os.path.abspath(entry).startswith(self.reads.inside)]
            import traceback

            return "".join(traceback.format_exception(type(error), error, trace))
        except Exception:
            return ""
        finally:
            sys.path[:] = path


def _install() -> None:
    told = os.environ.pop(VARIABLE, None)
    here = os.path.dirname(os.path.abspath(__file__))
    _remove_traces(here)
    if told is not None:
        import faulthandler

        streams: Any = (sys.stdout, sys.stderr)
        for stream in streams:
            if stream is not None:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        if sys.stderr is not None:
            faulthandler.enable()
        sys.addaudithook(Hook(*told.split("\n")))
    _run_the_users_own()


def _remove_traces(here: str) -> None:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if entries[0] == here:
        if len(entries) > 1:
            os.environ["PYTHONPATH"] = os.pathsep.join(entries[1:])
        else:
            del os.environ["PYTHONPATH"]
    sys.path[:] = [path for path in sys.path if path != here]
    sys.path_importer_cache.pop(here, None)


def _run_the_users_own() -> None:
    """Load the ``sitecustomize`` that the interpreter would have loaded without ours."""
    for finder in sys.meta_path:
        spec = finder.find_spec("sitecustomize", None, None)
        if spec is not None and spec.loader is not None and spec.origin != __file__:
            import _frozen_importlib as importing  # importlib.util would be loaded before the script

            module = importing.module_from_spec(spec)
            sys.modules["sitecustomize"] = module
            spec.loader.exec_module(module)
            return


_install()
