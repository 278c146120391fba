"""The verbs by which skills come from others and go to them."""

from __future__ import annotations

from cmbagent_nb.errors import UsageError
from cmbagent_nb.render.text import visible
from cmbagent_nb.settings import user_path
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output, grid, rows, table
from cmbagent_nb.verbs.skill_parts import SKILL, VERSION_OF, about

_KINDS = ("folder", "git")


@verb(
    "skill export",
    SKILL,
    arg("path", nargs="?", default=".", metavar="PATH", help="where to; the current folder by default"),
    arg("--format", default="folder", choices=("folder", "json", "zip"), metavar="F", help="folder, json or zip"),
    arg("--licence", default="", metavar="L", help="what others may do with it, such as Apache-2.0"),
    arg("--overwrite", action="store_true", help="replace an earlier export"),
    group="skills",
    aliases=("export-skill",),
)
def export(call: Call) -> Output:
    """Write a skill as files that anyone can import, in the open Agent Skills format."""
    options = call.options
    skill = call.ws.skills.get(options.skill)
    place = skill.export(options.path, options.format, licence=options.licence, overwrite=options.overwrite)
    data = {"skill_id": skill.id, "name": skill.name, "version": skill.version, "format": options.format}
    return Output({**data, "path": str(place)}, f"{skill.name} v{skill.version} is in {place}.")


@verb(
    "skill import",
    arg("path", metavar="PATH", help="an exported folder, JSON file or zip archive"),
    arg("--name", metavar="N", help="another name for it here"),
    VERSION_OF,
    group="skills",
    aliases=("import-skill",),
)
def import_(call: Call) -> Output:
    """Take a skill from others; its code is shown, and nothing of it runs before it is trusted."""
    options = call.options
    path = user_path(options.path)
    if not path.exists():
        raise UsageError(f"there is nothing at {options.path}", "Check the path.", path=options.path)
    skill = call.ws.skills.import_(path, name=options.name, version_of=options.version_of)
    code = skill.code()
    shown = visible(code, code=True)

    def text() -> str:
        if skill.info.trusted:
            return f"{shown}\n{skill.name} v{skill.version} is trusted."
        step = f"{call.prog} skill trust {skill.name}@{skill.version}"
        return f"{shown}\n{skill.name} v{skill.version} is not trusted. When you have read its code: {step}"

    return Output({**about(skill), "code": str(code)}, text)


@verb("skill trust", SKILL, group="skills", aliases=("trust-skill",))
def trust(call: Call) -> Output:
    """Let a skill from elsewhere run from now on; its code is shown."""
    before = call.ws.skills.get(call.options.skill)
    if not before.info.trusted:
        for line in str(before.code()).splitlines():
            call.say(visible(line, code=True))
    skill = before.trust()
    said = "was trusted already" if before.info.trusted else f"is trusted; it is {skill.status}"
    if skill.status == "draft":
        said += f". Verify it here with {call.prog} skill verify {skill.name}@{skill.version}"
    return Output(about(skill), f"{skill.name} v{skill.version} {said}.", display=skill)


@verb(
    "skill publish",
    SKILL,
    arg("--private", action="store_true", help="take it back: it is for you alone"),
    arg("--to", default="", metavar="SOURCE", help="put it into this team's folder, too"),
    group="skills",
)
def publish(call: Call) -> Output:
    """Mark a skill as one for others, or as private again."""
    options = call.options
    visibility = "private" if options.private else "public"
    skill = call.ws.skills.publish(options.skill, visibility, to=options.to)
    where = f" and in {options.to}" if options.to else ""
    data = {"skill_id": skill.id, "name": skill.name, "version": skill.version, "visibility": visibility}
    return Output({**data, "to": options.to or None}, f"{skill.name} v{skill.version} is {visibility}{where}.")


@verb(
    "skill source",
    arg("action", nargs="?", default="list", choices=("list", "add", "remove"), metavar="list|add|remove",
        help="what to do; list by default"),
    arg("name", nargs="?", default="", metavar="NAME", help="the source's name here"),
    arg("location", nargs="?", default="", metavar="LOCATION", help="a folder, or a git repository's folder or URL"),
    arg("--kind", default="", choices=_KINDS, metavar="K", help="folder or git, where it is not plain"),
    arg("--trusted", action="store_true", help="run its skills without a look; who writes there runs code as you"),
    group="skills",
)  # fmt: skip
def source(call: Call) -> Output:
    """List the libraries of others that skills are taken from; add or remove one."""
    options, ws = call.options, call.ws
    if (options.action != "list" and not options.name) or (options.action == "add" and not options.location):
        words = "add NAME LOCATION" if options.action == "add" else "remove NAME"
        raise UsageError(f"skill source {options.action} needs more words", f"{call.prog} skill source {words}")
    if options.action == "add":
        ws.skills.add_source(options.name, options.location, options.kind, trusted=options.trusted)
    elif options.action == "remove":
        ws.skills.remove_source(options.name)
    frame = ws.skills.sources()
    none = f"There are no sources. Add one with {call.prog} skill source add NAME LOCATION."
    return table(frame, "name kind location trusted synced_at", none=none)


@verb(
    "skill sync",
    arg("name", nargs="?", metavar="NAME", help="a source; all of them if left out"),
    group="skills",
    aliases=("sync-skills",),
)
def sync(call: Call) -> Output:
    """Take what is new from the sources of skills."""
    frame = call.ws.skills.sync(call.options.name)
    refused = int((frame["change"] == "refused").sum())
    none = f"There is nothing to take. See the sources with {call.prog} skill source."
    columns = ["source", "skill", "version", "change", "trusted", "detail"]
    return Output(frame, lambda: grid(rows(frame), columns, none), display=frame, exit_status=1 if refused else 0)
