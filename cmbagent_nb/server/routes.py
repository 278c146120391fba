"""Lists the handlers with their addresses below ``/cmbagent/api``."""

from __future__ import annotations

from typing import Any

from jupyter_server.utils import url_path_join

from cmbagent_nb.errors import RunNotFound
from cmbagent_nb.server.base import Handler, guarded
from cmbagent_nb.server.gates import Answer, Approval, Pending
from cmbagent_nb.server.queries import PARTS
from cmbagent_nb.server.runs import Cancel, Hold, Run, Runs
from cmbagent_nb.server.skill_actions import Act, Make, SkillJob
from cmbagent_nb.server.skill_jobs import Jobs
from cmbagent_nb.server.skills import Execution, Match, OneSkill, Skills, Top
from cmbagent_nb.server.workspace_pool import WorkspacePool


class Missing(Handler):
    """Any other address below ``/cmbagent/api``."""

    @guarded
    async def get(self) -> None:
        """Say that there is nothing here."""
        raise RunNotFound(f"there is nothing at {self.request.path}", "See the list of addresses in the documentation.")

    post = put = delete = patch = get


def routes(base_url: str, pool: WorkspacePool | None = None) -> list[tuple[str, type[Handler], dict[str, Any]]]:
    """Return the handlers with their addresses below ``base_url``."""
    shared = {"pool": pool or WorkspacePool()}
    own = {**shared, "jobs": Jobs()}
    root = url_path_join(base_url, "cmbagent", "api")
    one = "([^/]+)"
    parts = "executions|artifacts|performance|dashboard|export|versions|code"
    return [
        (f"{root}/runs", Runs, shared),
        (f"{root}/runs/{one}/cancel", Cancel, shared),
        (f"{root}/runs/{one}/(pause|resume)", Hold, shared),
        (f"{root}/runs/{one}(?:/(status|steps|events|dag|{'|'.join(PARTS)}))?", Run, shared),
        (f"{root}/approvals/pending", Pending, shared),
        (f"{root}/approvals/{one}/(approve|reject|resolve)", Answer, shared),
        (f"{root}/approvals/{one}", Approval, shared),
        (f"{root}/skills", Skills, own),
        (f"{root}/skills/match", Match, own),
        (f"{root}/skills/(extract|compose|import|starter)", Make, own),
        (f"{root}/skills/{one}/(execute|verify|analyze|optimize|rollback|trust)", Act, own),
        (f"{root}/skills/{one}/executions/{one}", Execution, own),
        (f"{root}/skills/{one}(?:/({parts}))?", OneSkill, own),
        (f"{root}/analytics/skills/top", Top, own),
        (f"{root}/skill-jobs/{one}(?:/(cancel))?", SkillJob, own),
        (f"{root}/.*", Missing, shared),
    ]
