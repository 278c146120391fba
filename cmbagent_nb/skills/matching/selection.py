"""Reads what a run is to do with skills: use one by its name, search for one that fits, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, SettingsError, UsageError

if TYPE_CHECKING:
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.matching.offering import SkillOffer
    from cmbagent_nb.workflow.launch import Request
    from cmbagent_nb.workflow.process_state import WorkspaceHandle

#: The values of the setting ``skill_mode``.
MODES = ("off", "manual", "auto")


@dataclass(frozen=True)
class SkillSelection:
    """A skill's name, or whether to search for one, and whether that was requested for this run."""

    name: str = ""
    search: bool = False
    requested: bool = False

    def skill_selector(
        self,
        host: WorkspaceHandle,
        request: Request,
        required_tags: Iterable[str],
        parameters: Mapping[str, Any] | None,
        inputs: Mapping[str, Any] | None,
        no_model: CMBAgentError | None,
    ) -> SkillOffer:
        """Return what looks for the skill when the run has begun.

        A person is asked when that was asked for, or when the run opens other gates; not where gates have answers.
        """
        from cmbagent_nb.skills.matching.match import tags_of
        from cmbagent_nb.skills.matching.offering import MatchPolicy, SkillOffer

        policy = MatchPolicy(
            ask=not request.gates and (self.requested or bool(request.options.approve)),
            required_tags=tags_of(required_tags),
            parameters=dict(parameters or {}),
            allow_unattended=request.gates != "reject",
        )
        return SkillOffer(
            host,
            request.settings,
            request.registry,
            request.model,
            policy,
            inputs=dict(inputs or {}),
            no_model=no_model,
        )


def read_selection(skill: str | None, auto_match: bool, settings: Settings) -> SkillSelection:
    """Read what was asked for; what is not said is taken from the setting ``skill_mode``.

    Raises
    ------
    SettingsError
        The setting is none of off, manual, auto.
    UsageError
        A skill is named, and another is to be looked for.
    """
    if settings.skill_mode not in MODES:
        raise SettingsError(
            f"skill_mode cannot be {settings.skill_mode!r}", f"Use one of {', '.join(MODES)}.", name="skill_mode"
        )
    said = (skill or "").strip()
    if said.lower() in ("off", "auto"):
        if said.lower() == "off" and auto_match:
            raise UsageError("skills are off and one is to be looked for", "Leave one of them out.")
        return SkillSelection(search=said.lower() == "auto", requested=True)
    if said:
        if auto_match:
            raise UsageError(f"the skill {said} is named and one is to be looked for", "Leave one of them out.")
        return SkillSelection(name=said, requested=True)
    return SkillSelection(search=auto_match or settings.skill_mode == "auto", requested=auto_match)
