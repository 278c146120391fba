"""Handles the REST requests that run, change and make skills.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.server import skill_queries
from cmbagent_nb.server.base import guarded
from cmbagent_nb.server.skill_base import PATIENCE, SkillHandler, checked
from cmbagent_nb.verbs.output import plain

if TYPE_CHECKING:
    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.workspace import Workspace


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
        checked(check_start, skill.info, given)
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
        require_trust(skill.info)
        return home, skill

    async def _quick(self, reference: str, what: str, body: dict[str, Any]) -> None:
        version, reason = body.get("version"), self.text(body, "reason")
        if what == "rollback" and (isinstance(version, bool) or not isinstance(version, int | str)):
            raise UsageError("there is no version to go back to", 'Send {"version": 1}.')
        await self.answer(self._do, reference, what, str(version), reason)

    def _do(self, reference: str, what: str, version: str, reason: str) -> Any:
        _, workspace, skill = self.find_skill(reference)
        if what == "analyze":
            return {
                "id": skill.id,
                "name": skill.name,
                "version": skill.version,
                **skill_queries.dashboard(workspace, skill),
            }
        if what == "optimize":
            return plain(skill.optimize().as_dict())
        changed = skill.trust() if what == "trust" else skill.rollback(version, reason)
        return skill_queries.about(workspace, changed)


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
        return workspace.skills.install_starter() if workspace.settings.starter_skills else []

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
        await self.thread(self._claim, workspace, name, version_of, naming.of_run, workspace._core.db, run_id)
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
        skills = [skill.info for _, _, skill in found]
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
        place = (workspace._core.db, workspace._core.writer, workspace.home)
        skill, _ = import_package(*place, taken, name=name, version_of=version_of)
        shown = workspace.skills.get(skill)
        return {**skill_queries.about(workspace, shown), "code": str(shown.code())}


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
