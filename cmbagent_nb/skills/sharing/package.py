"""A skill's files as they travel: read with suspicion, before anything is written or run.

| form | |
|---|---|
| folder | ``SKILL.md``, ``notebook.ipynb``, ``skill.json``, ``assets/``, ``expected/``, ``manifest.json`` |
| JSON | one file that holds all of these |
| zip | an archive of the folder |

Everything is read into memory first. A path that would leave the folder, a link, two names that some file systems
take for one, and anything too large are refused by the place where they are found.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb.errors import SkillRefused
from cmbagent_nb.settings import user_path
from cmbagent_nb.tool_files import is_tool_file

NOTEBOOK = "notebook.ipynb"
ABOUT = "SKILL.md"
ROW = "skill.json"
MANIFEST = "manifest.json"
ASSETS = "assets/"
EXPECTED = "expected/"
#: Runs the notebook with papermill alone; each export gets it from ``runner.py``.
SCRIPT = "scripts/run.py"
#: What the cells should show.
SHOWN = "shown.json"

LARGEST_FILE = 64 * 2**20
LARGEST = 128 * 2**20
MOST_FILES = 500
_LONGEST_PATH = 200
#: The largest JSON file: base64 makes four bytes of three, and there are the names.
_LARGEST_JSON = LARGEST * 3 // 2
_JSON_FORMAT = "cmbagent-skill"
_ODD = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\]")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError)
_EXPORTS = "Name an exported folder, JSON file or zip archive."
EXPORT_AGAIN = "Have it exported again, by: cmbagent skill export NAME."
_COPY_AGAIN = "Copy or download it again; if it is still so, have it exported again."
_RENAME = "Rename that file where the skill was made, and have it exported again."
_NO_LINK = "Put the file itself in place of the link, and have the skill exported again."
_SMALLER = "Take large files out of the skill where it was made, and have it exported again."


@dataclass
class Package:
    """The files of a skill, by path."""

    files: dict[str, bytes] = field(default_factory=dict)

    def text(self, path: str) -> str:
        """Return a file as text; refuse what is none."""
        try:
            return self.files[path].decode("utf-8")
        except KeyError:
            raise refused(f"it has no {path}", EXPORT_AGAIN, path=path) from None
        except UnicodeDecodeError:
            raise refused(f"its {path} is not text", EXPORT_AGAIN, path=path) from None

    def below(self, prefix: str) -> dict[str, bytes]:
        """Return the files below a folder, by their path in it."""
        return {path[len(prefix) :]: content for path, content in self.files.items() if path.startswith(prefix)}


def refused(why: str, next_step: str, **data: Any) -> SkillRefused:
    """Return the error for a package that is not taken."""
    return SkillRefused(f"the skill was not imported: {why}", next_step, **data)


def read_package(place: str | Path) -> Package:
    """Read a skill from a folder, a JSON file or a zip archive, without writing anything.

    Raises
    ------
    SkillRefused
        It is not there, or something about its paths or its size is not right.
    """
    path = user_path(place)
    if path.is_symlink():
        raise refused(f"{path} is a link", "Name the folder or file itself.", path=str(path))
    if path.is_dir():
        return _collected(_folder(_top(path)))
    if not path.is_file():
        raise refused(f"there is no {path}", _EXPORTS, path=str(path))
    if zipfile.is_zipfile(path):
        return _collected(_archive(path))
    if path.stat().st_size > _LARGEST_JSON:
        raise refused(f"{path.name} is larger than {_LARGEST_JSON >> 20} MB", _SMALLER, path=str(path))
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise refused(
            f"{path.name} is neither a JSON file nor a zip archive",
            _EXPORTS,
            path=str(path),
        ) from None


def check_path(path: str) -> str:
    """Return a path that stays inside a folder on any system, or refuse it.

    >>> check_path("assets/input/df.parquet")
    'assets/input/df.parquet'
    """
    pure = PurePosixPath(path)
    parts = path.split("/")
    why = ""
    if not path or _ODD.search(path) or len(path) > _LONGEST_PATH or path != unicodedata.normalize("NFC", path):
        why = "cannot be the name of a file everywhere"
    elif pure.is_absolute() or ".." in parts:
        why = "lies outside of its folder"
    elif any(part in ("", ".") or part.endswith((" ", ".")) or _DEVICES.fullmatch(part) for part in parts):
        why = "cannot be the name of a file everywhere"
    if why:
        raise refused(f"the path {path[:_LONGEST_PATH]!r} in it {why}", _RENAME, path=path)
    return path


def _collected(entries: Iterator[tuple[str, int, Any]]) -> Package:
    """Read the entries ``(path, size, open)``; each is checked before it is opened."""
    package, total, seen = Package(), 0, set[str]()
    for path, size, opened in entries:
        check_path(path)
        if path.casefold() in seen:
            raise refused(f"{path} is there twice", _RENAME, path=path)
        seen.add(path.casefold())
        if len(seen) > MOST_FILES:
            raise refused(f"it has more than {MOST_FILES} files", _SMALLER)
        if size > LARGEST_FILE:
            raise refused(f"{path} is larger than {LARGEST_FILE >> 20} MB", _SMALLER, path=path)
        # What it says of its size need not be true: never more than this is read.
        try:
            with opened() as file:
                content: bytes = file.read(min(LARGEST_FILE, LARGEST - total) + 1)
        except _DAMAGED as error:
            raise refused(f"{path} in it cannot be read ({error})", _COPY_AGAIN, path=path) from error
        total += len(content)
        if len(content) > LARGEST_FILE or total > LARGEST:
            raise refused(f"it is larger than {LARGEST >> 20} MB", _SMALLER, path=path)
        package.files[path] = content
    folders = {str(parent).casefold() for path in package.files for parent in PurePosixPath(path).parents}
    clash = folders & seen
    if clash:
        raise refused(f"{sorted(clash)[0]} is a file and a folder at once", _RENAME)
    return package


def _top(folder: Path) -> Path:
    """Return the folder of the skill: an export into ``folder`` makes one in it, under the skill's name."""
    if (folder / MANIFEST).exists():
        return folder
    inside = [item for item in folder.iterdir() if not is_tool_file(item.name)]
    one = len(inside) == 1 and not inside[0].is_symlink() and (inside[0] / MANIFEST).is_file()
    return inside[0] if one else folder


def _folder(folder: Path) -> Iterator[tuple[str, int, Any]]:
    """Go through a folder; a link is refused, wherever it leads."""
    stack = [folder]
    while stack:
        for item in sorted(stack.pop().iterdir()):
            inside = item.relative_to(folder).as_posix()
            if is_tool_file(inside):
                continue
            state = item.lstat()
            if stat.S_ISLNK(state.st_mode):
                raise refused(f"{inside} is a link", _NO_LINK, path=inside)
            if stat.S_ISDIR(state.st_mode):
                stack.append(item)
            elif stat.S_ISREG(state.st_mode):
                yield inside, state.st_size, partial(item.open, "rb")
            else:
                raise refused(
                    f"{inside} is not a plain file", "Remove it from the folder, and import the rest.", path=inside
                )


def _archive(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Go through a zip archive; the files may lie in one folder at its top."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and not is_tool_file(info.filename)]
            for info in infos:
                # The name as it stands in the archive: zipfile itself cuts it at a NUL and changes separators.
                check_path(info.orig_filename)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise refused(f"{info.filename} is a link", _NO_LINK, path=info.filename)
                if info.flag_bits & 0x1:
                    raise refused(
                        f"{info.filename} is encrypted",
                        "Unpack it with its password, and import the folder.",
                        path=info.filename,
                    )
            names = [info.filename for info in infos]
            top = names[0].partition("/")[0] + "/" if names and MANIFEST not in names else ""
            if top and not all(name.startswith(top) for name in names):
                raise refused(f"it has no {MANIFEST}", EXPORT_AGAIN, path=MANIFEST)
            for info in infos:
                yield info.filename[len(top) :], info.file_size, partial(archive.open, info)
    except _DAMAGED as error:
        raise refused(f"{path.name} is damaged ({error})", _COPY_AGAIN, path=str(path)) from error


def to_json(package: Package) -> str:
    """Return a package as the text of one JSON file."""
    files: dict[str, dict[str, str]] = {}
    for path, content in sorted(package.files.items()):
        try:
            files[path] = {"text": content.decode("utf-8")}
        except UnicodeDecodeError:
            files[path] = {"base64": base64.b64encode(content).decode("ascii")}
    return json.dumps({"format": _JSON_FORMAT, "version": 1, "files": files}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Package:
    """Read a package from the text of a JSON file."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(f"it cannot be read as JSON ({type(error).__name__})", _COPY_AGAIN) from None
    return from_value(value)


def from_value(value: Any) -> Package:
    """Read a package from what its JSON says, as a request to a server holds it."""
    if not isinstance(value, dict) or value.get("format") != _JSON_FORMAT or not isinstance(value.get("files"), dict):
        raise refused("the JSON is not an exported skill", "Give what `skill export --format json` wrote.")
    newer(value.get("version"), "the JSON")
    return _collected(_entries(value["files"]))


def _entries(files: Mapping[Any, Any]) -> Iterator[tuple[str, int, Any]]:
    for path, item in files.items():
        content = _content(str(path), item)
        yield str(path), len(content), partial(BytesIO, content)


def _content(path: str, item: Any) -> bytes:
    if isinstance(item, dict) and len(item) == 1:
        with contextlib.suppress(ValueError):
            if isinstance(item.get("text"), str):
                return str(item["text"]).encode()
            if isinstance(item.get("base64"), str):
                return base64.b64decode(item["base64"], validate=True)
    raise refused(f"{path[:_LONGEST_PATH]!r} in it holds neither text nor base64", EXPORT_AGAIN, path=path)


def newer(version: Any, what: str, known: int = 1) -> None:
    """Refuse a format that this version does not know.

    Raises
    ------
    SkillRefused
        The format is newer, or no number at all.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise refused(f"{what} does not say in which format it is", EXPORT_AGAIN)
    if version > known:
        raise refused(
            f"{what} has the format {version}, which is newer than this version of cmbagent_nb knows ({known})",
            "Update with: pip install --upgrade cmbagent-nb.",
            format=version,
        )
