"""Verifying a skill again: after an update of a library, or on another machine.

The notebook in the library is run as it stands and compared with what is kept beside it (``expected/``,
``shown.json``): the run that it came from may be gone. What comes of it is kept: a draft that is reproduced becomes
active, an active skill that is not any more becomes a draft.

Fonts and drawing differ between systems and versions. A picture that came from another environment is compared by
its size alone when its pixels differ, and the report says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import RunNotFound, SkillError
from cmbagent_nb.skills.extracting.record import RunRecord, choose, read_record
from cmbagent_nb.skills.library import SkillRecord, find, staging, write_verification
from cmbagent_nb.skills.source_hash import check_notebook
from cmbagent_nb.skills.verifying.compare import method
from cmbagent_nb.skills.verifying.expected import EXPECTED, kept, kept_shown
from cmbagent_nb.skills.verifying.shown import Shown, printed_by
from cmbagent_nb.skills.verifying.verify import Original, Report, judge, verify

if TYPE_CHECKING:
    from cmbagent_nb.skills.model import StepCode
    from cmbagent_nb.skills.running.engine import OnProgress


def verify_again(
    skill: SkillRecord, *, on_progress: OnProgress | None = None, timeout_s: float | None = None
) -> SkillRecord:
    """Run a skill with its defaults in a fresh kernel, compare it with its run, and return it with the outcome.

    Raises
    ------
    SkillError
        The skill is not trusted, its notebook was changed, or there is nothing to compare it with.
    """
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.sharing.trust import require_trust

    require_trust(skill)
    expected, shown, folders = reference(skill)
    if not expected and not shown:
        raise SkillError(
            f"there is nothing to compare skill {skill.name} v{skill.version} with: "
            "its run is not in this workspace, and no files came with it",
            f"Run it, and look at what it makes: %cmbagent skill run {skill.name}.",
            skill=skill.name,
        )
    notebook = read_notebook(check_notebook(skill))
    with staging(skill.home, "verify") as work:
        found = verify(
            notebook,
            skill.assets,
            work,
            expected,
            shown=shown,
            folders=folders,
            timeout_s=timeout_s,
            on_progress=on_progress,
        )
        origin = skill.verification.get("origin")
        if origin:
            _other_pictures(skill, found, work)
    report = found.as_dict()
    if origin:
        report |= {"compared_with": EXPECTED, "origin": origin}
    status = {("draft", True): "active", ("active", False): "draft"}.get(
        (skill.status, report["verified"]), skill.status
    )
    skill.writer.update("skills", skill.id, {"verification": report, "status": status})
    skill.writer.barrier().result()
    write_verification(skill.folder, report)
    return find(skill.db, skill.writer, skill.home, skill.id)


def originals(skill: SkillRecord) -> list[Original]:
    """Return the files that a skill must make again."""
    return reference(skill)[0]


def reference(skill: SkillRecord) -> tuple[list[Original], list[Shown], list[str]]:
    """Return the files and displayed results that a skill must make again, and the folders where they were made.

    They are those kept with the skill; the run has those that are too large for that, and those of older skills.
    """
    files = {item.path: item for item in kept(skill.folder)}
    shown, folders = kept_shown(skill.folder)
    if files and not skill.source_run_id:
        return list(files.values()), shown, folders
    record, steps = _source(skill)
    if record is None:
        return list(files.values()), shown, folders
    for step in steps:
        for path in step.made:
            own, published = Path(step.folder) / path, record.work_dir / path
            if path not in files:
                files[path] = Original(path, own if own.is_file() else published)
    shown = shown or printed_by((step.node_id, step.code, step.printed) for step in steps)
    places = [str(record.work_dir), *(step.folder for step in steps)]
    return [files[path] for path in sorted(files)], shown, list(dict.fromkeys([*folders, *places]))


def _source(skill: SkillRecord) -> tuple[RunRecord | None, list[StepCode]]:
    """Return the run that a skill came from and its steps, as far as they are in this workspace."""
    if not skill.source_run_id:
        return None, []
    try:
        record = read_record(skill.db, skill.source_run_id)
        return record, choose(record, skill.steps)[0]
    except (RunNotFound, SkillError):
        return None, []


def _other_pictures(skill: SkillRecord, report: Report, work: Path) -> None:
    """Pass over pixels that differ in pictures that were drawn elsewhere, if nothing else differs."""
    from cmbagent_nb.skills.sharing.export import environment

    origin: dict[str, Any] = skill.verification.get("origin") or {}
    made_on, here = origin.get("made_on") or {}, environment()
    differs = sorted(name for name in here if made_on.get(name) != here[name])
    if not differs or not (report.files or report.shown):
        return
    files = []
    for item in report.files:
        old, new = skill.folder / EXPECTED / item.path, work / item.path
        pictures = method(item.path)[0] == "decoded pixels" and not item.equal
        if pictures and new.is_file() and _size(old) is not None and _size(old) == _size(new):
            note = (
                f"{item.path}: its pixels were not compared, since {', '.join(differs)} differ from where it was made"
            )
            report.notes.append(note)
            files.append(replace(item, equal=True, how="size of the picture", detail=note, counts=False))
        else:
            files.append(item)
    report.files = files
    drawn = [item for item in report.shown if not item.equal and item.how in ("decoded pixels", "drawing")]
    for item in drawn:
        note = f"{item.path}: it was not compared, since {', '.join(differs)} differ from where it was made"
        report.notes.append(note)
        place = report.shown.index(item)
        report.shown[place] = replace(item, equal=True, how="being there", detail=note, counts=False)
    report.verified, report.reason = False, ""
    judge(report)


def _size(path: Path) -> tuple[int, int] | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, UnidentifiedImageError):
        return None
