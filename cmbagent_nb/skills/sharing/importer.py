"""Importing a skill: everything that can be refused is, before anything is written; nothing of it is run.

| invariant | how |
|---|---|
| nothing leaves its folder | paths are checked in ``package``, those of parameters here |
| all its code can be read | compiled code is refused |
| it is as it was exported | the manifest holds the sha256 of every file |
| it takes nobody's place | an untrusted skill is a draft, and a name means its newest active version |
| importing twice changes nothing | a version with the same notebook and assets is found and returned |
"""

from __future__ import annotations

import ast
import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills import library, naming
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.sharing import manifest, schema, skill_md
from cmbagent_nb.skills.sharing.export import COLUMNS, FORMAT, write_files
from cmbagent_nb.skills.sharing.package import (
    ABOUT,
    ASSETS,
    EXPECTED,
    EXPORT_AGAIN,
    MANIFEST,
    NOTEBOOK,
    ROW,
    SHOWN,
    Package,
    from_value,
    newer,
    read_package,
    refused,
)
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

_LARGEST_NOTEBOOK = 16 * 2**20
_LARGEST_ROW = 4 * 2**20
_NBFORMAT, _NBFORMAT_MINOR = 4, 5
_CLEAR = "Clear its outputs where the skill was made, and have the skill exported again."
_CONVERT = "Convert it with: jupyter nbconvert --to notebook --nbformat 4; then have the skill exported again."
_TAG = "Give the cell that sets the parameters this tag where the skill was made, and have the skill exported again."
#: What reading a text as Python may raise.
_UNPARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
#: Code that Python runs and nobody can read.
_COMPILED = (".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib")


@dataclass(frozen=True)
class ValidatedPackage:
    """A package that has been read and found right: what goes into the library."""

    name: str
    row: dict[str, Any]
    about: dict[str, Any]
    package: Package
    content_hash: str
    #: The same of the code alone.
    code_hash: str


def read(place: str | Path | Mapping[str, Any]) -> ValidatedPackage:
    """Read a package (a place, or what an exported JSON file says) and check all of it; writes nothing.

    Raises
    ------
    SkillRefused
        Something about it is not right; the text says what.
    """
    return check(from_value(dict(place)) if isinstance(place, Mapping) else read_package(place))


def check(package: Package, *, ours: bool = False) -> ValidatedPackage:
    """Check a package that was read: manifest, formats, parameters; and the notebook, unless it is one of ours."""
    manifest.check(package)
    for path in package.files:
        if path.lower().endswith(_COMPILED):
            raise refused(f"{path} in it is compiled code, which nobody can read", "Ask for its source.", path=path)
    about = _row(package)
    if not ours:
        _notebook(package, about)
    row = {name: about[name] for name in COLUMNS if about.get(name) is not None and name != "version"}
    return ValidatedPackage(
        about["name"], row, about, package, manifest.digest(package.files), manifest.code_digest(package.files)
    )


def import_package(
    db: Database,
    writer: Writer,
    home: Path,
    taken: ValidatedPackage,
    *,
    name: str | None = None,
    version_of: str | None = None,
    came_from: str = "",
    source: str = "",
    trusted_how: str = "",
    session_id: str | None = None,
    tags: tuple[str, ...] = (),
) -> tuple[SkillRecord, bool]:
    """Put a checked package into the library; returns the skill and whether it is new there.

    Parameters
    ----------
    name
        A name in place of the package's own.
    version_of
        The skill of which it is the next version; else a name that a skill of another origin has is refused.
    source
        The source that it belongs to, if it was synchronised.
    trusted_how
        Why it is trusted from the start (``starter``, ``source NAME``); untrusted when empty.
    """
    from cmbagent_nb.skills.notebook import notebook_hash
    from cmbagent_nb.skills.sharing import trust

    own_name = naming.check_name(version_of or name or taken.name)
    known = find_same(db, writer, home, own_name, taken)
    if known is not None:
        return known, False
    same = naming.of_package(taken.name, came_from, source)
    claim = naming.claim(db, name or (None if version_of else taken.name), version_of=version_of, same_origin=same)
    now = time.time()
    about = taken.about
    origin = {
        "name": taken.name,
        "version": about["version"],
        "from": came_from,
        "source": source or None,
        "license": about.get("license") or "",
        "made_by": about.get("made_by") or "",
        "made_on": about.get("made_on") or {},
        "manifest": manifest.digest({NOTEBOOK: taken.package.files[MANIFEST]}),
        "content_hash": taken.content_hash,
        "code_hash": taken.code_hash,
        "imported_at": now,
    }
    meta: dict[str, Any] = {"origin": origin}
    report = {**(taken.row.get("verification") or {"verified": False, "reason": "it was not verified"})}
    report["origin"] = {key: origin[key] for key in ("made_by", "made_on")} | {"summary": report.get("summary")}
    if report.get("verified"):
        report["summary"] = f"{report.get('summary') or 'reproduced'} when it was made ({_made_with(taken)})"
    if trusted_how:
        who = trust.who()
        meta["trust"] = {"by": who, "at": now, "how": trusted_how, "content_hash": taken.code_hash}
    row = {
        **taken.row,
        "name": own_name,
        "session_id": session_id,
        "tags": sorted({*taken.row.get("tags", ()), *tags}),
        "notebook_hash": notebook_hash(taken.package.text(NOTEBOOK)),
        "status": "active" if trusted_how and report.get("verified") else "draft",
        "trusted": bool(trusted_how),
        "verification": report,
        "meta": meta,
    }
    try:
        with library.staging(home, own_name) as folder:
            write_files(_kept(taken.package), folder)
            (folder / library.ASSETS).mkdir(exist_ok=True)
            library.write_verification(folder, report)
            row["artifacts"] = _artifacts(taken, folder / library.ASSETS)
            return library.add(db, writer, Path(home), folder, row, claim=claim), True
    except OSError as error:
        raise SkillError(
            f"skill {own_name} cannot be written into the workspace ({error.strerror or error})",
            "Check the disk's space and permissions.",
            path=str(home),
        ) from error


def find_same(db: Database, writer: Writer, home: Path, name: str, taken: ValidatedPackage) -> SkillRecord | None:
    """Return the version of a name that has this very notebook and these assets, made here or imported."""
    from cmbagent_nb.skills.sharing import trust

    for row in db.rows("SELECT id, meta FROM skills WHERE name = :name ORDER BY version DESC", name=name):
        origin = (from_json(row["meta"]) or {}).get("origin") if row["meta"] else None
        if origin is not None and origin.get("content_hash") != taken.content_hash:
            continue
        skill = library.find(db, writer, Path(home), row["id"])
        if skill.notebook.is_file() and trust.code_hash(skill) == taken.code_hash:
            return skill
    return None


def _kept(package: Package) -> Package:
    """Return the files that the library keeps; a script of the package is not among them."""
    kept = (NOTEBOOK, ABOUT, SHOWN), (ASSETS, EXPECTED)
    return Package({path: data for path, data in package.files.items() if path in kept[0] or path.startswith(kept[1])})


def _row(package: Package) -> dict[str, Any]:
    """Read and check the package's ``skill.json``."""
    text = package.text(ROW)
    if len(text) > _LARGEST_ROW:
        raise refused(f"its {ROW} is larger than {_LARGEST_ROW >> 20} MB", EXPORT_AGAIN, path=ROW)
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise refused(f"its {ROW} cannot be read", EXPORT_AGAIN, path=ROW)
    newer(about.get("format"), f"its {ROW}", FORMAT)
    schema.check(about)
    return about


def _notebook(package: Package, about: dict[str, Any]) -> None:
    """Check the notebook's format and form; its code is not looked at, and not run."""
    text = package.text(NOTEBOOK)
    if len(text) > _LARGEST_NOTEBOOK:
        raise refused(f"its notebook is larger than {_LARGEST_NOTEBOOK >> 20} MB", _CLEAR, path=NOTEBOOK)
    try:
        notebook = json.loads(text)
        major, minor = int(notebook["nbformat"]), int(notebook["nbformat_minor"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise refused("its notebook cannot be read as one", EXPORT_AGAIN, path=NOTEBOOK) from None
    if (major, minor) > (_NBFORMAT, _NBFORMAT_MINOR):
        raise refused(
            f"its notebook has the format {major}.{minor}, "
            f"which is newer than this version of cmbagent_nb knows ({_NBFORMAT}.{_NBFORMAT_MINOR})",
            "Update with: pip install --upgrade cmbagent-nb.",
            path=NOTEBOOK,
            format=f"{major}.{minor}",
        )
    if major < _NBFORMAT:
        raise refused(f"its notebook has the old format {major}.{minor}", _CONVERT, path=NOTEBOOK)
    _valid(notebook)
    ours = notebook["metadata"].get("cmbagent_nb")
    if isinstance(ours, dict) and "format" in ours:
        newer(ours["format"], "its notebook's record of where it came from")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if not cells:
        raise refused("its notebook has no code", EXPORT_AGAIN, path=NOTEBOOK)
    if about["parameters"] and not any("parameters" in cell["metadata"].get("tags", []) for cell in cells):
        raise refused("its notebook has no cell with the tag parameters", _TAG, path=NOTEBOOK)


def _valid(notebook: dict[str, Any]) -> None:
    import warnings

    nbformat: Any = importlib.import_module("nbformat")  # it has no types
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what nbformat would mend by itself is not right either
            nbformat.validate(nbformat.from_dict(notebook))
    except (nbformat.ValidationError, Warning, ValueError, TypeError, AttributeError, KeyError) as error:
        raise refused(
            f"its notebook is not valid: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Open and save it in JupyterLab where the skill was made, and have the skill exported again.",
            path=NOTEBOOK,
        ) from None


def _artifacts(taken: ValidatedPackage, assets: Path) -> list[dict[str, Any]]:
    """Return the rows of what the skill consists of, as those of a skill that is made here."""
    from cmbagent_nb.skills.versions import artifacts_of

    cells = [
        SimpleNamespace(cell_type=cell["cell_type"], metadata=cell["metadata"], source="".join(cell["source"]))
        for cell in json.loads(taken.package.text(NOTEBOOK))["cells"]
    ]
    notebook: Any = SimpleNamespace(cells=cells)
    schemas = {**(taken.row.get("input_schema") or {}), **(taken.row.get("output_schema") or {})}
    made = [str(path) for path in (taken.row.get("postconditions") or {}).get("files") or []]
    parameters = [Parameter.from_dict(item) for item in taken.row["parameters"]]
    try:
        return artifacts_of(notebook, parameters, schemas, assets, made)
    except _UNPARSED:  # a cell with magics, say: the others count
        notebook.cells = [cell for cell in cells if _is_python(cell.source)]
        return artifacts_of(notebook, parameters, schemas, assets, made)


def _is_python(source: str) -> bool:
    """Tell whether a cell is plain Python; one with magics is passed over."""
    try:
        ast.parse(source)
    except _UNPARSED:
        return False
    return True


def _made_with(taken: ValidatedPackage) -> str:
    """Return the versions that a skill was verified with, in a few words."""
    said = ", ".join(f"{name} {version}" for name, version in skill_md.packages(taken.about).items())
    return said or str(taken.about.get("made_by") or "versions unknown")
