"""Notes what a notebook's code reads, lists, writes and connects to; it runs in the kernel, before the first cell.

The text of this module is sent to the kernel, which need not be able to import the package. What it sees:

| seen | how |
|---|---|
| files that Python opens, folders that it lists, modules that it imports | an audit hook |
| files that C libraries open | not here: by the time of last access, where the file system keeps it |
| writes outside of the run's folder | refused by the audit hook; those of C libraries and programs by Landlock |
| connections, programs that are started | the audit hook; not what they do |
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Events that change a place, with the positions of the paths among their arguments.
_CHANGES = {
    "os.remove": (0,), "os.rename": (0, 1), "os.mkdir": (0,), "os.rmdir": (0,), "os.truncate": (0,), "os.link": (1,),
    "os.symlink": (1,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "sqlite3.connect": (0,),
    "shutil.rmtree": (0,),
}  # fmt: skip
_PROGRAMS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.forkpty")
#: Modules that list folders to find modules and packages.
_FINDERS = ("importlib", "pkgutil", "pkg_resources", "zipimport", "IPython", "ipykernel")


def watch(config: dict[str, Any]) -> None:
    """Begin to note; ``config`` says where, what is passed over, and whether writes outside are refused."""
    root = config["root"] or os.getcwd()  # noqa: PTH109
    observer = Observer(
        os.path.realpath(root), config["log"] or f"{root}.observed", config["passed"], config["lazy"], config["refuse"]
    )
    observer.without = frozenset(config["without"])
    scratch = f"{root}.tmp"
    os.makedirs(scratch, exist_ok=True)  # noqa: PTH103
    os.environ["TMPDIR"] = scratch
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    observer.allowed += [os.path.realpath(scratch), *_own_places()]
    if config["refuse"]:
        _landlock(observer.allowed)
    sys.addaudithook(observer)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.events.register("post_run_cell", lambda result: observer.command(shell.user_ns.pop("_exit_code", 0)))


def _own_places() -> list[str]:
    """Return the places where programs keep what is theirs: caches and settings, not the user's files."""
    home = os.path.expanduser("~")  # noqa: PTH111
    names = (".cache", ".config", ".local", ".astropy", ".matplotlib", ".ipython", ".jupyter", ".keras", ".numba_cache")
    found = [os.path.join(home, name) for name in names]  # noqa: PTH118
    for place in found[:2]:
        # Libraries make them when they are first used; a place that is not there cannot be left open to them.
        with contextlib.suppress(OSError):
            os.makedirs(place, mode=0o700, exist_ok=True)  # noqa: PTH103
    for name in (
        "IPYTHONDIR",
        "MPLCONFIGDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
        "NUMBA_CACHE_DIR",
    ):
        found += [os.environ[name]] if os.environ.get(name) else []
    return ["/dev", "/proc", *(os.path.realpath(item) for item in found)]


class Observer:
    """The audit hook."""

    def __init__(self, root: str, log: str, passed: list[str], lazy: dict[str, str] | None, refuse: bool) -> None:
        self.root, self.passed, self.lazy, self.refuse = root, tuple(passed), lazy, refuse
        self.allowed = [root]
        #: Folders and files that are never copied, nor shown in a folder that is listed.
        self.without: frozenset[str] = frozenset()
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.said: set[tuple[str, str]] = set()
        self.inside = threading.local()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Note an event of the interpreter."""
        if not (event in _CHANGES or event in _PROGRAMS or event.partition(".")[0] in _INTERESTING):
            return
        if getattr(self.inside, "busy", False):
            return
        self.inside.busy = True
        try:
            self._event(event, args)
        finally:
            self.inside.busy = False

    def command(self, status: Any) -> None:
        """Note that the last command of a cell failed."""
        if isinstance(status, int) and status:
            self._say("failed command", str(status))

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            self._open(args)
        elif event in ("os.listdir", "os.scandir"):
            self._list(args[0])
        elif event in ("glob.glob", "glob.glob/2"):
            if event == "glob.glob":
                self._say("glob", self._path(args[0]))
        elif event in ("pathlib.Path.glob", "pathlib.Path.rglob"):
            middle = "**/" if event.endswith("rglob") else ""
            self._say("glob", self._path(os.path.join(str(args[0]), f"{middle}{args[1]}")))  # noqa: PTH118
        elif event in _CHANGES:
            for position in _CHANGES[event]:
                if isinstance(args[position], (str, bytes, os.PathLike)):
                    self._write(args[position], event)
        elif event in _PROGRAMS:
            what = args[1] if event == "subprocess.Popen" else args[0] if args else "a shell"
            self._say("program", " ".join(map(str, what)) if isinstance(what, (list, tuple)) else str(what))
        elif event == "urllib.Request":
            self._say("network", str(args[0]))
        elif event == "http.client.connect":
            self._say("network", f"{args[1]}:{args[2]}")
        elif event == "socket.connect" and isinstance(args[1], tuple):
            self._say("network", f"{args[1][0]}:{args[1][1]}")

    def _open(self, args: tuple[Any, ...]) -> None:
        path, mode, flags = args
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        writes = bool(flags & _WRITES) if isinstance(flags, int) else any(sign in str(mode) for sign in "wax+")
        if writes:
            keeps = not (isinstance(flags, int) and flags & os.O_TRUNC)
            self._write(path, "open", keeps)
        else:
            place = self._path(path)
            self._fetch(place)
            self._say("read", place)

    def _write(self, path: Any, event: str, keeps: bool = False) -> None:
        place = self._path(path)
        if event == "sqlite3.connect" and (place.endswith(":memory:") or "/file:" in place):
            return
        real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))  # noqa: PTH118, PTH119, PTH120
        if any(_below(real, item) for item in self.allowed) or "/__pycache__" in real:
            self._fetch_folder(os.path.dirname(place))  # noqa: PTH120
            if keeps and event == "open":
                self._fetch(place)
                self._say("update", place)
            elif event == "open":
                self._say("write", place)
            return
        if event == "os.mkdir" and os.path.isdir(real):  # noqa: PTH112
            return  # it fails anyway, as it would without us
        self._say("outside", place)
        if self.refuse:
            raise PermissionError(errno.EACCES, "writing outside of the notebook's folder was refused", place)

    def _list(self, path: Any) -> None:
        if path is not None and not isinstance(path, (str, bytes, os.PathLike)):
            return
        caller = sys._getframe(3).f_code
        if any(word in caller.co_filename for word in _FINDERS):
            return
        # What glob looks for is noted with its pattern.
        by_pattern = caller.co_filename.endswith("glob.py") or "pathlib" in caller.co_filename
        by_pattern = by_pattern and caller.co_name not in ("iterdir", "walk")
        place = self._path(path if path is not None else ".")
        if self.lazy is not None and self._source(place) is not None and os.path.isdir(self._source(place) or ""):  # noqa: PTH112
            source = self._source(place) or ""
            for name in os.listdir(source):  # noqa: PTH208
                inner = os.path.join(place, name)  # noqa: PTH118
                if self._source(inner) is None:
                    continue
                if os.path.isdir(os.path.join(source, name)):  # noqa: PTH112, PTH118
                    os.makedirs(inner, exist_ok=True)  # noqa: PTH103
                self._fetch(inner)
        if not by_pattern:
            self._say("list", place)

    # -- files that are copied when they are asked for -----------------------------------------------

    def _source(self, place: str) -> str | None:
        """Return where the original of a path of the copied tree is; None for one that is never copied."""
        for copy, original in (self.lazy or {}).items():
            if _below(place, copy):
                source = original + place[len(copy) :]
                return None if os.path.realpath(source) in self.without else source
        return None

    def _fetch(self, place: str) -> None:
        source = self._source(place)
        if source is None or "/__pycache__/" in place or os.path.lexists(place) or not os.path.isfile(source):  # noqa: PTH113
            return
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            shutil.copy2(source, place)
            self._say("fetched", place)
        except OSError:
            return

    def _fetch_folder(self, folder: str) -> None:
        source = self._source(folder)
        if source is not None and os.path.isdir(source):  # noqa: PTH112
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103

    def _path(self, path: Any) -> str:
        return os.path.abspath(os.fsdecode(path))  # noqa: PTH100

    def _say(self, what: str, place: str) -> None:
        if (what, place) in self.said:
            return
        self.said.add((what, place))
        if what in ("read", "list", "glob") and not _below(place, self.root) and place.startswith(self.passed):
            return
        try:
            os.write(self.log, (json.dumps([what, place]) + "\n").encode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            return


_INTERESTING = frozenset({"open", "os", "glob", "pathlib", "urllib", "http", "socket"})


def _below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip("/") + "/")


def _landlock(allowed: list[str]) -> None:
    """Let the kernel of the system refuse writes elsewhere, also of C libraries and of programs that are started.

    Nothing happens where there is no Landlock (before Linux 6.2, other systems): the audit hook stays.
    """
    try:
        import ctypes
        import struct

        libc = ctypes.CDLL(None, use_errno=True)
        create, add, restrict = 444, 445, 446
        if not sys.platform.startswith("linux") or libc.syscall(create, None, 0, 1) < 3:
            return
        # Everything that changes files: write, remove, make, move, truncate.
        rights = sum(1 << bit for bit in (1, *range(4, 15)))
        ruleset = libc.syscall(create, struct.pack("Q", rights), 8, 0)
        if ruleset < 0:
            return
        for place in allowed:
            try:
                folder = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            libc.syscall(add, ruleset, 1, struct.pack("=Qi", rights, folder), 0)
            os.close(folder)
        if libc.prctl(38, 1, 0, 0, 0) == 0:  # no new privileges, as Landlock asks
            libc.syscall(restrict, ruleset, 0)
        os.close(ruleset)
    except (OSError, AttributeError, ImportError):
        return
