"""Exporting a skill: its notebook, inputs, what it should make, and what the library knows of it.

What belongs to this workspace stays here: ids, counts of use, executions, who trusted it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb._version import __version__
from cmbagent_nb.errors import SkillError
from cmbagent_nb.settings import user_path
from cmbagent_nb.skills.sharing import manifest, skill_md
from cmbagent_nb.skills.sharing.package import (
    ABOUT,
    ASSETS,
    EXPECTED,
    MANIFEST,
    NOTEBOOK,
    ROW,
    SCRIPT,
    SHOWN,
    Package,
    read_package,
    to_json,
)
from cmbagent_nb.skills.source_hash import verified_text
from cmbagent_nb.tool_files import files_below

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord

FORMATS = ("folder", "json", "zip")
#: Columns of the library that travel with a skill.
COLUMNS = (
    "name", "version", "description", "tags", "task_pattern", "input_schema", "output_schema", "preconditions",
    "postconditions", "source_step_range", "dag_template", "agent_sequence", "context_requirements", "parameters",
    "verification", "visibility",
)  # fmt: skip
FORMAT = 1
#: What the skill makes travels with it, so that it can be verified elsewhere, as far as it is small.
LARGEST_EXPECTED = 4 * 2**20
LARGEST_EXPECTED_ALL = 16 * 2**20


def export(
    skill: SkillRecord, path: str | Path, *, format: str = "folder", licence: str = "", overwrite: bool = False
) -> Path:
    """Write a skill as a folder, a JSON file or a zip archive; see :meth:`Skill.export`."""
    if format not in FORMATS:
        raise SkillError(
            f"a skill is not exported as {format!r}", f"Choose one of {', '.join(FORMATS)}.", format=format
        )
    target = user_path(path)
    name = skill_md.slug(skill.name)
    if format == "folder":
        target = target if target.name == name else target / name
    elif target.suffix.lower() != f".{format}":
        target = target / f"{name}.{format}"
    if target.is_symlink() or (target.exists() and not (overwrite and _is_export(target))):
        raise SkillError(
            f"{target} is there already",
            "Name another place, or give overwrite=True for an earlier export.",
            path=str(target),
        )
    package = pack(skill, licence=licence)
    try:
        _write(package, target, format)
    except OSError as error:
        raise SkillError(
            f"{target} cannot be written ({error.strerror or error})", "Name another place.", path=str(target)
        ) from error
    return target


def pack(skill: SkillRecord, *, licence: str = "") -> Package:
    """Return the files of a skill as they are exported, with their manifest."""
    row = describe(skill, licence)
    package = Package({NOTEBOOK: verified_text(skill).encode()})
    for path in files_below(skill.assets):
        package.files[ASSETS + path.relative_to(skill.assets).as_posix()] = path.read_bytes()
    kept, left_out = _expected(skill)
    package.files |= kept | _shown(skill)
    if left_out:
        row["expected_left_out"] = left_out
    package.files[ROW] = (json.dumps(row, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
    package.files[ABOUT] = skill_md.write(skill, row, row["license"]).encode()
    package.files[SCRIPT] = Path(__file__).with_name("runner.py").read_bytes()
    return manifest.seal(package)


def describe(skill: SkillRecord, licence: str = "") -> dict[str, Any]:
    """Return what the library knows of a skill, as it travels."""
    from cmbagent_nb.store.lookup import find_skill

    found = find_skill(skill.db, skill.id)
    origin = (found["meta"] or {}).get("origin") or {}
    report = dict(found["verification"] or {})
    before = report.pop("origin", None)
    if before and "compared_with" not in report and before.get("summary"):
        report["summary"] = before["summary"]  # in its own words, as it came
    found = {**found, "verification": report}
    return {
        "format": FORMAT,
        **{name: found[name] for name in COLUMNS},
        "license": licence or str(origin.get("license") or ""),
        "made_by": f"cmbagent_nb {__version__}",
        "made_on": origin.get("made_on") or environment(),
    }


def environment() -> dict[str, str]:
    """Return what decides how a picture's pixels come out, besides the code: the platform and what draws."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    for name in ("matplotlib", "pillow", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _expected(skill: SkillRecord) -> tuple[dict[str, bytes], list[str]]:
    """Return the files that the skill should make, and the names of those too large to travel."""
    from cmbagent_nb.skills.verifying.again import originals

    kept: dict[str, bytes] = {}
    left_out = []
    total = 0
    for item in originals(skill):
        if not item.place.is_file():
            continue
        size = item.place.stat().st_size
        total += size
        if size > LARGEST_EXPECTED or total > LARGEST_EXPECTED_ALL:
            left_out.append(item.path)
            total -= size
        else:
            kept[EXPECTED + item.path] = item.place.read_bytes()
    return kept, left_out


def _shown(skill: SkillRecord) -> dict[str, bytes]:
    """Return what the skill's cells should show; where that was made stays here."""
    from cmbagent_nb.skills.verifying.expected import kept_shown

    found, _ = kept_shown(skill.folder)
    value = {"format": 1, "shown": [item.as_dict() for item in found], "folders": []}
    content = (json.dumps(value, ensure_ascii=False) + "\n").encode()
    return {SHOWN: content} if found and len(content) <= LARGEST_EXPECTED else {}


def _is_export(target: Path) -> bool:
    """Tell whether a skill was exported there before; any other file or folder is not ours to replace."""
    if target.is_dir():
        return (target / MANIFEST).is_file() and (target / ABOUT).is_file()
    try:
        return MANIFEST in read_package(target).files
    except SkillError:
        return False


def write_files(package: Package, folder: Path) -> None:
    """Write a package's files below a folder that is there; their paths have been checked or are our own."""
    for path, content in package.files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _write(package: Package, target: Path, format: str) -> None:
    """Write beside the target first, so that there is never half an export."""
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made = making / target.name
        if format == "folder":
            made.mkdir()
            write_files(package, made)
        elif format == "json":
            made.write_text(to_json(package), encoding="utf-8")
        else:
            _zip(package, made, target.stem)
        if target.is_dir():
            target.rename(making / "before")
        made.replace(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _zip(package: Package, made: Path, folder: str) -> None:
    import zipfile

    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(package.files.items()):
            # The same files make the same archive: no time of day in it.
            info = zipfile.ZipInfo(f"{folder}/{path}", (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
