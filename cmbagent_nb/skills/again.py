"""Verifying a skill again: after an update of a library, or on another machine.

The notebook in the library is run as it stands and compared with the files of the run that it came
from. What comes of it is kept: a draft that is reproduced becomes active, an active skill that is
not any more becomes a draft.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.library import Skill, check_notebook, find, write_verification
from cmbagent_nb.skills.record import choose, read_record
from cmbagent_nb.skills.verify import Original, verify

if TYPE_CHECKING:
    from cmbagent_nb.skills.engine import OnProgress


def verify_again(skill: Skill, *, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> Skill:
    """Run a skill with its defaults in a fresh kernel, compare it with its run, and return it with the outcome.

    Raises
    ------
    SkillError
        The skill is not trusted, its notebook was changed, or there is no run to compare it with.
    """
    from cmbagent_nb.skills.notebook import read_notebook

    if not skill.trusted:
        raise SkillError(
            f"skill {skill.name} v{skill.version} came from elsewhere and is not trusted",
            f"Read its notebook first: {skill.notebook}.",
            skill=skill.name,
        )
    if not skill.source_run_id:
        raise SkillError(
            f"skill {skill.name} v{skill.version} did not come from a run of this workspace",
            f"Run it, and look at what it makes: %cmbagent skill run {skill.name}.",
            skill=skill.name,
        )
    notebook = read_notebook(check_notebook(skill))
    record = read_record(skill.db, skill.source_run_id)
    steps, _ = choose(record, skill.steps)
    places = {path: (Path(step.folder) / path, record.work_dir / path) for step in steps for path in step.made}
    making = skill.home / "skills" / ".making"
    making.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="verify-", dir=making))
    try:
        report = verify(
            notebook,
            skill.assets,
            work,
            [Original(path, own if own.is_file() else published) for path, (own, published) in sorted(places.items())],
            printed="".join(step.printed for step in steps),
            folders=[str(record.work_dir), *(step.folder for step in steps)],
            timeout_s=timeout_s,
            on_progress=on_progress,
        ).as_dict()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    status = {("draft", True): "active", ("active", False): "draft"}.get(
        (skill.status, report["verified"]), skill.status
    )
    skill.writer.update("skills", skill.id, {"verification": report, "status": status})
    skill.writer.barrier().result()
    write_verification(skill.folder, report)
    return find(skill.db, skill.writer, skill.home, skill.id)
