"""The verbs about a skill: looking at skills, making them, verifying them."""

from __future__ import annotations

from typing import Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.settings import user_path
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, count, verb
from cmbagent_nb.verbs.output import Output, grid, rows
from cmbagent_nb.verbs.skill_parts import (
    DESCRIPTION,
    REASON,
    SKILL,
    TAGS,
    VERSION_OF,
    about,
    made,
    progress,
    refuse,
    skill_text,
    words,
)

_STATUSES = ("active", "draft", "deprecated")
#: What skills can be sorted by: the column, and whether the largest comes first.
SORTS = {
    "name": ("name", False),
    "success_rate": ("success_rate", True),
    "usage": ("usage_count", True),
    "time": ("avg_execution_time_s", False),
    "created": ("created_at", True),
    "used": ("last_used_at", True),
}


@verb(
    "skills",
    arg("--search", default="", metavar="WORDS", help="only skills that have all these words, the best first"),
    arg("--tags", default="", metavar="A,B", help="only skills that have all these tags"),
    arg("--status", choices=_STATUSES, metavar="S", help="only active, draft or deprecated ones"),
    arg("--sort", choices=tuple(SORTS), metavar="BY", help=f"sort by {', '.join(SORTS)}"),
    arg("--limit", type=count, metavar="N", help="at most so many"),
    group="skills",
    aliases=("list-skills", "skill list"),
)
def skills(call: Call) -> Output:
    """List the skills of the workspace."""
    options = call.options
    frame = call.ws.skills.list().drop(columns=["task_embedding"], errors="ignore")
    ended = frame["success_count"].fillna(0) + frame["failure_count"].fillna(0)
    frame = frame.assign(success_rate=(frame["success_count"] / ended.where(ended > 0)).astype(float))
    if options.status:
        frame = frame[frame["status"] == options.status]
    if options.search or options.tags:
        found = call.ws.skills.search(options.search, tags=words(options.tags), status=options.status)
        frame = frame.set_index("id", drop=False).loc[found["skill_id"].tolist()].reset_index(drop=True)
    if options.sort:
        column, descending = SORTS[options.sort]
        frame = frame.sort_values(column, ascending=not descending, kind="stable", na_position="last")
    if options.limit is not None:
        frame = frame.head(options.limit)
    columns = [
        "id",
        "name",
        "version",
        "status",
        "tags",
        "usage_count",
        "success_rate",
        "avg_execution_time_s",
        "created_at",
        "description",
    ]
    narrowed = any((options.status, options.sort, options.tags, options.limit))

    def text() -> str:
        if options.search or options.tags or options.status:
            none = f"There are no such skills. See all of them with {call.prog} skills."
        else:
            none = f"There are no skills yet. Make one with {call.prog} skill extract RUN --name NAME."
        return grid(rows(frame), columns, none)

    return Output(frame, text, display=frame if narrowed else call.ws.skills.browse(options.search))


@verb("skill show", SKILL, group="skills", aliases=("show-skill",))
def show(call: Call) -> Output:
    """Show a skill: what it takes, how it was verified, where its notebook is."""
    skill = call.ws.skills.get(call.options.skill)
    return Output(about(skill), lambda: skill_text(skill), display=skill)


@verb(
    "skill extract",
    arg("run", metavar="RUN", help="a run that has ended: its name, its id or a part of it"),
    arg("range", nargs="?", metavar="STEP[-STEP]", help="the steps, such as 1, 1-3 or 1,3; all by default"),
    arg("--steps", metavar="STEPS", help="the steps, in another way"),
    arg("--name", metavar="N", help="the name of the skill"),
    VERSION_OF,
    TAGS,
    DESCRIPTION,
    arg("--public", action="store_true", help="mark it as one for others"),
    group="skills",
    aliases=("extract-skill",),
)
def extract(call: Call) -> Output:
    """Make a skill of a run's steps and verify it in a fresh kernel; no model is asked."""
    options = call.options
    if options.range and options.steps:
        raise UsageError("the steps are given twice", "Give them either as STEP[-STEP] or with --steps.")
    from cmbagent_nb.skills import naming

    if not options.name and not options.version_of:
        raise UsageError("the skill has no name", "Give it one with --name NAME.")
    report = progress(call, begins="opening the workspace")
    run = call.run()
    _claimed(call, options, naming.of_run(call.ws._core.db, run.id))
    skill = run.extract_skill(
        options.name,
        options.range or options.steps,
        version_of=options.version_of,
        tags=words(options.tags),
        description=options.description,
        public=options.public,
        on_progress=report,
    )
    return made(call, skill)


@verb(
    "skill create",
    arg("notebook", metavar="NOTEBOOK", help="a notebook with a cell that has the tag 'parameters'"),
    arg("--name", metavar="N", help="the name of the skill; the notebook's by default"),
    VERSION_OF,
    arg(
        "--bring",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files or folders to bring along, besides those that it is seen to read",
    ),
    arg("--allow-outside-writes", action="store_true", help="let it write outside of its folder while it is tried"),
    TAGS,
    DESCRIPTION,
    group="skills",
    aliases=("create-skill",),
)
def create(call: Call) -> Output:
    """Make a skill of a notebook: it is run twice, compared, and its parameters are tried."""
    options = call.options
    report = progress(call, begins="opening the workspace")
    from cmbagent_nb.skills import naming

    if options.name or options.version_of:
        place = str(user_path(options.notebook))
        _claimed(call, options, naming.of_notebook(place))
    given: dict[str, Any] = {
        "version_of": options.version_of,
        "tags": words(options.tags),
        "description": options.description,
        "bring": options.bring,
        "allow_outside_writes": options.allow_outside_writes,
    }
    return made(call, call.ws.skills.create(options.notebook, options.name, **given, on_progress=report))


@verb(
    "skill edit",
    SKILL,
    arg(
        "notebook", nargs="?", metavar="NOTEBOOK", help="an edited copy; its own notebook, edited in place, if left out"
    ),
    arg("--restore", action="store_true", help="put back the notebook that was verified, in place of an edited one"),
    REASON,
    group="skills",
    aliases=("edit-skill",),
)
def edit(call: Call) -> Output:
    """Make the next version of a skill from its edited notebook, or from an edited copy, and verify it."""
    options = call.options
    skill = call.ws.skills.get(options.skill)
    if options.restore:
        from cmbagent_nb.skills.source_hash import restore

        if options.notebook:
            raise UsageError("--restore takes no notebook", "Leave out one of the two.")
        restore(skill.info)
        said = f"The notebook of {skill.name} v{skill.version} is the one that was verified."
        return Output(skill.info.as_dict(), said, display=skill)
    return made(call, skill.edit(options.notebook, reason=options.reason, on_progress=progress(call)))


@verb("skill verify", SKILL, group="skills", aliases=("verify-skill",))
def verify(call: Call) -> Output:
    """Run a skill with its defaults in a fresh kernel and compare what it makes with its run's files."""
    return made(call, call.ws.skills.get(call.options.skill).verify(on_progress=progress(call)))


@verb("skill code", SKILL, group="skills")
def code(call: Call) -> Output:
    """Show all code that a skill runs; nothing is run."""
    skill = call.ws.skills.get(call.options.skill)
    shown = skill.code()
    return Output({"skill_id": skill.id, "name": skill.name, "version": skill.version, "code": str(shown)}, shown,
                  display=shown)  # fmt: skip


@verb(
    "skill delete",
    SKILL,
    arg("--all", action="store_true", help="all versions of its name"),
    arg("--results", action="store_true", help="what its executions made, too"),
    arg("--yes", action="store_true", help="delete it without asking"),
    group="skills",
    aliases=("delete-skill",),
)
def delete(call: Call) -> Output:
    """Delete a version of a skill for good; the run that it was made of stays."""
    options = call.options
    skill = call.ws.skills.get(options.skill)
    numbers = [int(number) for number in skill.versions()["version"]] if options.all else [skill.version]
    if not options.yes:
        which = f"all {len(numbers)} versions of {skill.name}" if len(numbers) > 1 else f"{skill.name} v{skill.version}"
        flags = f"{' --all' if options.all else ''}{' --results' if options.results else ''}"
        raise UsageError(
            f"{which} would be gone for good",
            f"Say so with {call.prog} skill delete {options.skill}{flags} --yes.",
            skill_id=skill.id,
        )
    said = [call.ws.skills.delete(f"{skill.name}@{number}", results=options.results) for number in numbers]
    return Output({"name": skill.name, "versions": numbers, "deleted": True, "done": said}, "\n".join(said))


def _claimed(call: Call, options: Any, same_origin: Any) -> None:
    """Refuse a name that is taken, before anything starts."""
    from cmbagent_nb.skills.naming import claim

    refuse(claim, call.ws._core.db, options.name, version_of=options.version_of, same_origin=same_origin)
