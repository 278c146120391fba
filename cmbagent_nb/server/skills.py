"""Handles the REST requests that read, match and delete skills."""

from __future__ import annotations

import tempfile
from typing import Any

from cmbagent_nb.errors import SkillNotFound, UsageError
from cmbagent_nb.server import skill_queries
from cmbagent_nb.server.base import guarded, shown
from cmbagent_nb.server.queries import plain as row_of
from cmbagent_nb.server.skill_base import SkillHandler
from cmbagent_nb.server.skill_jobs import Job
from cmbagent_nb.verbs.output import plain
from cmbagent_nb.verbs.skill import SORTS


class Skills(SkillHandler):
    """``GET /skills?search=&tags=&status=&sort=&limit=``: the skills of all workspaces, one version of each name."""

    @guarded
    async def get(self) -> None:
        """Send the skills."""
        limit = self.number("limit", 1000, 100_000)
        search, status = self.get_query_argument("search", ""), self.get_query_argument("status", "")
        tags = tuple(word.strip() for word in self.get_query_argument("tags", "").split(",") if word.strip())
        sort = self.get_query_argument("sort", "")
        if sort and sort not in SORTS:
            raise UsageError(f"skills cannot be sorted by {sort!r}", f"Take one of {', '.join(SORTS)}.")
        if status not in ("", "active", "draft", "deprecated"):
            raise UsageError(f"no skill is {status!r}", "A skill is active, draft or deprecated.")
        await self.answer(self._list, search, tags, status, sort, limit)

    def _list(self, search: str, tags: tuple[str, ...], status: str, sort: str, limit: int) -> dict[str, Any]:
        answers, problems = self.pool.read(
            lambda workspace: skill_queries.skills(workspace, search=search, tags=tags, status=status),
            ("skills", search, tags, status),
        )
        rows = [{**row, "workspace": str(home)} for home, _, found in answers for row in found]
        if sort:
            rows = skill_queries.ordered(rows, sort)
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
        workspace._core.writer.caught_up()
        if part == "executions":
            found = skill_queries.executions(workspace, skill.name, limit=limit, after=after)
            return {"executions": found, "after": after + len(found)}
        if part == "artifacts":
            return {"artifacts": skill_queries.artifacts(workspace._core.db, skill.id)}
        if part == "versions":
            return {"versions": skill_queries.records(skill.versions())}
        if part == "performance":
            return {
                "performance": skill_queries.records(
                    workspace.skills.performance(skill, self.get_query_argument("by", "version"))
                )
            }
        if part == "code":
            return {"id": skill.id, "name": skill.name, "version": skill.version, "code": str(skill.code())}
        about = skill_queries.about(workspace, skill)
        if part == "dashboard":
            newest = skill_queries.executions(workspace, skill.name, limit=20)
            return {"skill": about, **skill_queries.dashboard(workspace, skill), "executions": newest}
        return about

    def _export(self, reference: str, kind: str) -> tuple[str, bytes]:
        _, _, skill = self.find_skill(reference)
        if kind not in ("json", "zip"):
            raise UsageError(f"a skill cannot be sent as {kind!r}", "Ask for json or zip.")
        with tempfile.TemporaryDirectory() as folder:
            place = skill.export(folder, kind)
            return place.name, place.read_bytes()

    def _delete(self, reference: str, results: bool) -> dict[str, Any]:
        _, workspace, skill = self.find_skill(reference)
        said = workspace.skills.delete(skill, results=results)
        return {"id": skill.id, "name": skill.name, "version": skill.version, "deleted": True, "done": said}


class Execution(SkillHandler):
    """``GET /skills/{id}/executions/{e}``: one execution of a skill, as far as it is."""

    @guarded
    async def get(self, reference: str, execution: str) -> None:
        """Send an execution; one whose process has not begun yet has the status ``starting``."""
        job = self.jobs.executing(execution)
        await self.answer(self._find, reference, execution, job)

    def _find(self, reference: str, execution: str, job: Job | None) -> dict[str, Any]:
        from cmbagent_nb.skills.running.executions import find_execution

        _, workspace, skill = self.find_skill(reference)
        try:
            row = find_execution(workspace._core.db, workspace._core.writer, execution)
        except SkillNotFound:
            if job is None:
                raise
            if job.error is not None:
                raise job.error from None
            return {"id": execution, "skill": skill.name, "status": "starting", "job": job.id}
        (owner,) = workspace._core.db.rows("SELECT name, version FROM skills WHERE id = :id", id=row["skill_id"])
        if owner["name"] != skill.name:
            raise SkillNotFound(f"execution {execution} is not one of {skill.name}", f"It is one of {owner['name']}.")
        return {**row_of(row), "skill": owner["name"], "version": owner["version"], "job": job.id if job else None}


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
            lambda workspace: workspace.skills.match(task, **asked) if wanted in (None, workspace.home) else []
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
            lambda workspace: skill_queries.records(workspace.skills.analytics().top(metric, limit))
        )
        rows = [{**row, "workspace": str(home)} for home, _, found in answers for row in found]
        rows.sort(key=lambda row: row[column] if ascending else -row[column])
        return {"metric": metric, "skills": rows[:limit], "problems": shown(problems)}
