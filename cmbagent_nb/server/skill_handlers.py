"""Handles the REST requests for skills under ``/cmbagent/api``.

| rule | |
|---|---|
| what takes long | execute, extract, verify, compose, optimize: a job in a process of its own; see :mod:`.skill_jobs` |
| its answer | the outcome when it comes within ``wait`` seconds (of the body), else 202 with ``job`` to ask for |
| execute | is checked first, then replied to at once with 202, ``execution_id`` and ``job``, unless ``wait`` is given |
| untrusted skills | run nothing: 403, until ``/trust`` |
| the same name in several workspaces | ``?workspace=PATH`` says which, or the whole id does |
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError, SkillNotFound, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.server import skill_reading
from cmbagent_nb.server.base import Handler, guarded, shown
from cmbagent_nb.server.skill_jobs import Job, Jobs
from cmbagent_nb.verbs.output import plain

if TYPE_CHECKING:
    from cmbagent_nb.server.workspace_pool import WorkspacePool
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.workspace import Workspace

#: Seconds that work is waited for where the body does not say it, and at most.
PATIENCE, MOST_PATIENCE = 30.0, 600.0


class SkillHandler(Handler):
    """Base of the handlers of skills: reading bodies, finding skills, jobs."""

    def initialize(self, pool: WorkspacePool, jobs: Jobs | None = None) -> None:
        """Take the workspaces and the jobs."""
        super().initialize(pool)
        self.jobs = jobs or Jobs()

    def texts(self, data: dict[str, Any], name: str) -> list[str]:
        """Read a list of texts from the body; a text is a list of words with commas between."""
        value = data.get(name) or []
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{name} is not a list of strings", f'Send {name} as in ["a", "b"].')
        return value

    def mapping(self, data: dict[str, Any], name: str) -> dict[str, Any]:
        """Read an object from the body."""
        value = data.get(name) or {}
        if not isinstance(value, dict):
            raise UsageError(f"{name} is not an object", f'Send {name} as in {{"key": "value"}}.')
        return value

    def flag(self, data: dict[str, Any], name: str) -> bool:
        """Read a truth value from the body."""
        value = data.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{name} is neither true nor false", f"Send true or false, or leave {name} out.")
        return value

    def numeric(self, data: dict[str, Any], name: str, default: float | None, least: float, most: float) -> Any:
        """Read a number from the body."""
        value = data.get(name, default)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise UsageError(f"{name} cannot be {value!r}", f"It is a number from {least:g} to {most:g}.")
        return value

    def needed(self, data: dict[str, Any], name: str) -> str:
        """Read a text that must be there."""
        value = self.text(data, name).strip()
        if not value:
            raise UsageError(f"there is no {name}", f'Send {{"{name}": "…"}}.')
        return value

    async def work(self, what: str, home: Path, arguments: dict[str, Any], wait: float, **about: Any) -> None:
        """Begin a job and answer with its outcome, or with the job when it takes longer than is waited for."""
        job = await self.jobs.start(what, home, arguments, about)
        if wait:
            await self.jobs.wait(job, wait)
        self.ended(job)

    def ended(self, job: Job) -> None:
        """Answer with a job's outcome, or with the job."""
        if job.error is not None:
            raise job.error
        if job.over.is_set():
            self.reply(job.result)
        else:
            self.set_status(202)
            self.reply(job.as_dict())

    def patience(self, data: dict[str, Any], default: float = PATIENCE) -> float:
        """Read how long the answer may take."""
        return float(self.numeric(data, "wait", default, 0, MOST_PATIENCE))

    def workspace(self, named: str) -> tuple[Path, Workspace]:
        """Return the workspace that was named, or the only one, or the default one.

        Raises
        ------
        UsageError
            There is no such workspace.
        """
        found, _ = self.pool.read(lambda workspace: None)
        known = {home: workspace for home, workspace, _ in found}
        wanted = Path(named) if named else next(iter(known), None)
        if wanted is None or wanted not in known:
            what = f"there is no workspace {named}" if named else "there is no workspace yet"
            raise UsageError(what, "Open one first: cmbagent_nb.Workspace(…).db, or cmbagent runs.")
        return wanted, self.may_change(wanted, known[wanted])


def checked(check: Any, *arguments: Any, **options: Any) -> Any:
    """Check what was sent: what does not fit is wrong use."""
    try:
        return check(*arguments, **options)
    except SkillError as error:
        if type(error) is not SkillError:
            raise
        raise UsageError(error.what, error.next_step, **error.data) from error


class Skills(SkillHandler):
    """``GET /skills?search=&tags=&status=&sort=&limit=``: the skills of all workspaces, one version of each name."""

    @guarded
    async def get(self) -> None:
        """Send the skills."""
        limit = self.number("limit", 1000, 100_000)
        search, status = self.get_query_argument("search", ""), self.get_query_argument("status", "")
        tags = tuple(word.strip() for word in self.get_query_argument("tags", "").split(",") if word.strip())
        sort = self.get_query_argument("sort", "")
        if sort and sort not in skill_reading.SORTS:
            raise UsageError(f"skills cannot be sorted by {sort!r}", f"Take one of {', '.join(skill_reading.SORTS)}.")
        if status not in ("", "active", "draft", "deprecated"):
            raise UsageError(f"no skill is {status!r}", "A skill is active, draft or deprecated.")
        await self.answer(self._list, search, tags, status, sort, limit)

    def _list(self, search: str, tags: tuple[str, ...], status: str, sort: str, limit: int) -> dict[str, Any]:
        answers, problems = self.pool.read(
            lambda workspace: skill_reading.skills(workspace, search=search, tags=tags, status=status),
            ("skills", search, tags, status),
        )
        rows = [{**row, "workspace": str(home)} for home, _, found in answers for row in found]
        if sort:
            rows = skill_reading.ordered(rows, sort)
        return {"skills": rows[:limit], "problems": shown(problems)}


class OneSkill(SkillHandler):
    """``GET`` and ``DELETE /skills/{id}``, and what is below it to read."""

    @guarded
    async def get(self, reference: str, part: str | None) -> None:
        """Send a skill or a part of it."""
        if part == "export":
            name, content = await self.thread(self._export, reference, self.get_query_argument("format", "json"))
            self.set_header("Content-Disposition", f'attachment; filename="{name}"')
            self.set_header("Content-Type", "application/zip" if name.endswith(".zip") else "application/json")
            self.finish(content)
            return
        limit, after = self.number("limit", 100, 10_000), self.number("after", 0, 2**62)
        await self.answer(self._part, reference, part or "", limit, after)

    @guarded
    async def delete(self, reference: str, part: str | None) -> None:
        """Delete a version of a skill for good; ``?results=true`` takes what its executions made along."""
        if part:
            raise UsageError(f"{part} cannot be deleted", "Delete the skill.")
        await self.answer(self._delete, reference, self.get_query_argument("results", "") == "true")

    def _part(self, reference: str, part: str, limit: int, after: int) -> dict[str, Any]:
        _, workspace, skill = self.find_skill(reference)
        workspace.writer.caught_up()
        if part == "executions":
            found = skill_reading.executions(workspace, skill.name, limit=limit, after=after)
            return {"executions": found, "after": after + len(found)}
        if part == "artifacts":
            return {"artifacts": skill_reading.artifacts(workspace.db, skill.id)}
        if part == "versions":
            return {"versions": skill_reading.records(skill.versions())}
        if part == "performance":
            return {"performance": skill_reading.records(skill.performance(self.get_query_argument("by", "version")))}
        if part == "code":
            return {"id": skill.id, "name": skill.name, "version": skill.version, "code": str(skill.code())}
        about = skill_reading.about(workspace, skill)
        if part == "dashboard":
            newest = skill_reading.executions(workspace, skill.name, limit=20)
            return {"skill": about, **skill_reading.dashboard(skill), "executions": newest}
        return about

    def _export(self, reference: str, kind: str) -> tuple[str, bytes]:
        _, _, skill = self.find_skill(reference)
        if kind not in ("json", "zip"):
            raise UsageError(f"a skill cannot be sent as {kind!r}", "Ask for json or zip.")
        with tempfile.TemporaryDirectory() as folder:
            place = skill.export(folder, kind)
            return place.name, place.read_bytes()

    def _delete(self, reference: str, results: bool) -> dict[str, Any]:
        _, _, skill = self.find_skill(reference)
        said = skill.delete(results=results)
        return {"id": skill.id, "name": skill.name, "version": skill.version, "deleted": True, "done": said}


class Execution(SkillHandler):
    """``GET /skills/{id}/executions/{e}``: one execution of a skill, as far as it is."""

    @guarded
    async def get(self, reference: str, execution: str) -> None:
        """Send an execution; one whose process has not begun yet has the status ``starting``."""
        job = self.jobs.executing(execution)
        await self.answer(self._find, reference, execution, job)

    def _find(self, reference: str, execution: str, job: Job | None) -> dict[str, Any]:
        from cmbagent_nb.server.queries import plain as row_of
        from cmbagent_nb.skills.running.executions import find_execution

        _, workspace, skill = self.find_skill(reference)
        try:
            row = find_execution(workspace.db, workspace.writer, execution)
        except SkillNotFound:
            if job is None:
                raise
            if job.error is not None:
                raise job.error from None
            return {"id": execution, "skill": skill.name, "status": "starting", "job": job.id}
        (owner,) = workspace.db.rows("SELECT name, version FROM skills WHERE id = :id", id=row["skill_id"])
        if owner["name"] != skill.name:
            raise SkillNotFound(f"execution {execution} is not one of {skill.name}", f"It is one of {owner['name']}.")
        return {**row_of(row), "skill": owner["name"], "version": owner["version"], "job": job.id if job else None}


class Act(SkillHandler):
    """``POST /skills/{id}/execute``, ``/verify``, ``/analyze``, ``/optimize``, ``/rollback``, ``/trust``."""

    @guarded
    async def post(self, reference: str, what: str) -> None:
        """Do something with a skill."""
        body = self.body()
        await {
            "execute": self._run,
            "verify": self._verify,
            "optimize": self._optimize,
            "analyze": self._quick,
            "rollback": self._quick,
            "trust": self._quick,
        }[what](reference, what, body)

    async def _run(self, reference: str, _: str, body: dict[str, Any]) -> None:
        given = self.mapping(body, "parameters")
        timeout = self.numeric(body, "timeout_s", None, 1, 30 * 86_400)
        wait = self.patience(body, 0.0)
        home, skill = await self.thread(self._checked, reference, given)
        arguments: dict[str, Any] = {"skill": skill.id, "parameters": given}
        execution_id = new_id()
        arguments |= {"execution_id": execution_id, "timeout_s": timeout}
        about = {"skill": skill.name, "version": skill.version, "execution_id": execution_id}
        await self.work("execute", home, arguments, wait, **about)

    def _checked(self, reference: str, given: dict[str, Any]) -> tuple[Path, Skill]:
        from cmbagent_nb.skills.running.run import check_start

        home, _, skill = self.find_skill(reference)
        checked(check_start, skill, given)
        return home, skill

    async def _verify(self, reference: str, _: str, body: dict[str, Any]) -> None:
        wait = self.patience(body)
        home, skill = await self.thread(self._trusted, reference)
        await self.work("verify", home, {"skill": skill.id}, wait, skill=skill.name, version=skill.version)

    async def _optimize(self, reference: str, what: str, body: dict[str, Any]) -> None:
        if not self.flag(body, "apply"):
            await self._quick(reference, what, body)
            return
        reason, sample = self.text(body, "reason"), int(self.numeric(body, "sample", 5, 1, 1000))
        wait = self.patience(body)
        home, skill = await self.thread(self._trusted, reference)
        arguments = {"skill": skill.id, "reason": reason, "sample": sample}
        await self.work("optimize", home, arguments, wait, skill=skill.name, version=skill.version)

    def _trusted(self, reference: str) -> tuple[Path, Skill]:
        from cmbagent_nb.skills.sharing.trust import require_trust

        home, _, skill = self.find_skill(reference)
        require_trust(skill)
        return home, skill

    async def _quick(self, reference: str, what: str, body: dict[str, Any]) -> None:
        version, reason = body.get("version"), self.text(body, "reason")
        if what == "rollback" and (isinstance(version, bool) or not isinstance(version, int | str)):
            raise UsageError("there is no version to go back to", 'Send {"version": 1}.')
        await self.answer(self._do, reference, what, str(version), reason)

    def _do(self, reference: str, what: str, version: str, reason: str) -> Any:
        _, workspace, skill = self.find_skill(reference)
        if what == "analyze":
            return {"id": skill.id, "name": skill.name, "version": skill.version, **skill_reading.dashboard(skill)}
        if what == "optimize":
            return plain(skill.optimize().as_dict())
        changed = skill.trust() if what == "trust" else skill.rollback(version, reason)
        return skill_reading.about(workspace, changed)


class Make(SkillHandler):
    """``POST /skills/extract``, ``/skills/compose``, ``/skills/import`` and ``/skills/starter``: new skills."""

    @guarded
    async def post(self, what: str) -> None:
        """Make a skill."""
        body = self.body()
        makers = {"extract": self._extract, "compose": self._compose, "import": self._import, "starter": self._starter}
        await makers[what](body)

    async def _starter(self, body: dict[str, Any]) -> None:
        """Put the starter skills into the library, as the first look at it in a notebook does."""
        where = self.text(body, "workspace")
        await self.answer(lambda: {"installed": self._install(self.workspace(where)[1])})

    def _install(self, workspace: Workspace) -> list[str]:
        return workspace.install_starter_skills() if workspace.settings.starter_skills else []

    async def _extract(self, body: dict[str, Any]) -> None:
        from cmbagent_nb.skills import naming

        name, version_of = self._names(body)
        reference = self.needed(body, "run")
        arguments = {
            "name": name,
            "version_of": version_of,
            "steps": self.text(body, "steps") or None,
            "tags": self.texts(body, "tags"),
            "description": self.text(body, "description"),
            "public": self.flag(body, "public"),
        }
        wait = self.patience(body)
        home, workspace, run_id = await self.thread(self.find_run, reference)
        await self.thread(self._claim, workspace, name, version_of, naming.of_run, workspace.db, run_id)
        named = name or version_of
        await self.work("extract", home, {**arguments, "run": run_id}, wait, run_id=run_id, name=named)

    def _names(self, body: dict[str, Any]) -> tuple[str | None, str | None]:
        """Return the name and the skill of which this is to be a version; one of them is needed."""
        version_of = self.text(body, "version_of") or None
        name = (self.text(body, "name") or None) if version_of else self.needed(body, "name")
        if name is not None:
            from cmbagent_nb.skills.naming import check_name

            checked(check_name, name)
        return name, version_of

    def _claim(self, workspace: Any, name: str | None, version_of: str | None, origin: Any, *about: Any) -> None:
        """Refuse a name that is taken, before anything starts."""
        from cmbagent_nb.skills.naming import claim

        checked(claim, workspace.db, name, version_of=version_of, same_origin=origin(*about), option="version_of")

    async def _compose(self, body: dict[str, Any]) -> None:
        (name, version_of), skills = self._names(body), self.texts(body, "skills")
        if not skills:
            raise UsageError("there are no skills to compose", 'Send {"skills": ["a", "b"]}.')
        arguments = {
            "name": name,
            "version_of": version_of,
            "pattern": self.text(body, "pattern") or "sequential",
            "when": self.text(body, "when") or None,
            "connect": self.mapping(body, "connect") or None,
            "share": self.texts(body, "share"),
            "description": self.text(body, "description"),
            "tags": self.texts(body, "tags"),
        }
        wait = self.patience(body)
        home, ids = await self.thread(self._fitting, arguments, skills)
        await self.work("compose", home, {**arguments, "skills": ids}, wait, name=name or version_of)

    def _fitting(self, arguments: dict[str, Any], references: list[str]) -> tuple[Path, list[str]]:
        """Find the skills and check that they fit together, before anything starts."""
        from cmbagent_nb.skills.composing.compose import plan

        found = [self.find_skill(reference) for reference in references]
        if len({home for home, _, _ in found}) > 1:
            raise UsageError("the skills are in several workspaces", "Compose skills of one workspace.")
        from cmbagent_nb.skills.naming import of_parts

        name, version_of = arguments["name"], arguments["version_of"]
        skills = [skill for _, _, skill in found]
        self._claim(found[0][1], name, version_of, of_parts, [skill.name for skill in skills])
        other = ("name", "version_of", "description", "tags")
        plan(name or version_of, skills, **{key: value for key, value in arguments.items() if key not in other})
        return found[0][0], [skill.id for _, _, skill in found]

    async def _import(self, body: dict[str, Any]) -> None:
        packed, name = self.mapping(body, "skill"), self.text(body, "name") or None
        if not packed:
            raise UsageError("there is no skill to import", 'Send {"skill": …}, what an export as json gave.')
        version_of = self.text(body, "version_of") or None
        await self.answer(self._take, packed, name, version_of, self.text(body, "workspace"))

    def _take(self, packed: dict[str, Any], name: str | None, version_of: str | None, where: str) -> dict[str, Any]:
        from cmbagent_nb.skills.sharing.importer import check, import_package
        from cmbagent_nb.skills.sharing.package import from_json

        _, workspace = self.workspace(where)
        taken = check(from_json(json.dumps(packed)))
        place = (workspace.db, workspace.writer, workspace.home)
        skill, _ = import_package(*place, taken, name=name, version_of=version_of)
        return {**skill_reading.about(workspace, skill), "code": str(skill.code())}


class Match(SkillHandler):
    """``POST /skills/match`` with ``{task, k, min_similarity, required_tags, exclude_failed, workspace}``."""

    @guarded
    async def post(self) -> None:
        """Send the skills that fit a task, the best first; none where none fits."""
        body = self.body()
        asked = {
            "k": int(self.numeric(body, "k", 5, 1, 100)),
            "min_similarity": self.numeric(body, "min_similarity", None, 0, 1),
            "required_tags": self.texts(body, "required_tags"),
            "exclude_failed": self.flag(body, "exclude_failed"),
        }
        await self.answer(self._match, self.needed(body, "task"), self.text(body, "workspace"), asked)

    def _match(self, task: str, where: str, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = self.workspace(where)[0] if where else None
        answers, problems = self.pool.read(
            lambda workspace: workspace.match(task, **asked) if wanted in (None, workspace.home) else []
        )
        found = [{**plain(item.as_dict()), "workspace": str(home)} for home, _, items in answers for item in items]
        found.sort(key=lambda row: -row["score"])
        return {"matches": found[: asked["k"]], "problems": shown(problems)}


class Top(SkillHandler):
    """``GET /analytics/skills/top?metric=&limit=``: the skills with most usage, success, speed and so on."""

    @guarded
    async def get(self) -> None:
        """Send the top skills of all workspaces."""
        limit = self.number("limit", 10, 1000)
        await self.answer(self._top, self.get_query_argument("metric", "usage"), limit)

    def _top(self, metric: str, limit: int) -> dict[str, Any]:
        from cmbagent_nb.skills.learning.analytics import METRICS

        if metric not in METRICS:
            raise UsageError(f"{metric!r} is not a metric of skills", f"Take one of {', '.join(METRICS)}.")
        column, ascending = METRICS[metric]
        answers, problems = self.pool.read(
            lambda workspace: skill_reading.records(workspace.skill_analytics().top(metric, limit))
        )
        rows = [{**row, "workspace": str(home)} for home, _, found in answers for row in found]
        rows.sort(key=lambda row: row[column] if ascending else -row[column])
        return {"metric": metric, "skills": rows[:limit], "problems": shown(problems)}


class SkillJob(SkillHandler):
    """``GET /skill-jobs/{id}``, and ``POST /skill-jobs/{id}/cancel``."""

    @guarded
    async def get(self, job_id: str, _: str | None) -> None:
        """Send a job, with its result once it has one."""
        self.reply(self.jobs.find(job_id).as_dict())

    @guarded
    async def post(self, job_id: str, what: str | None) -> None:
        """Stop a job and wait for its end."""
        job = self.jobs.find(job_id)
        if what != "cancel":
            raise UsageError("a job can only be cancelled", f"POST to /skill-jobs/{job_id}/cancel.")
        self.jobs.stop(job)
        await self.jobs.wait(job, PATIENCE)
        self.reply(job.as_dict())


def skill_routes(root: str, shared: dict[str, Any]) -> list[tuple[str, type[Handler], dict[str, Any]]]:
    """Return the handlers of skills with their addresses."""
    own = {**shared, "jobs": Jobs()}
    one = "([^/]+)"
    parts = "executions|artifacts|performance|dashboard|export|versions|code"
    return [
        (f"{root}/skills", Skills, own),
        (f"{root}/skills/match", Match, own),
        (f"{root}/skills/(extract|compose|import|starter)", Make, own),
        (f"{root}/skills/{one}/(execute|verify|analyze|optimize|rollback|trust)", Act, own),
        (f"{root}/skills/{one}/executions/{one}", Execution, own),
        (f"{root}/skills/{one}(?:/({parts}))?", OneSkill, own),
        (f"{root}/analytics/skills/top", Top, own),
        (f"{root}/skill-jobs/{one}(?:/(cancel))?", SkillJob, own),
    ]
