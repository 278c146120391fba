"""What is asked for of skills when a run is started: one by its name, one to be looked for, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, SettingsError, UsageError

if TYPE_CHECKING:
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.matching.offering import SkillOffer
    from cmbagent_nb.workflow.host import Host
    from cmbagent_nb.workflow.launch import Request

#: The values of the setting ``skill_mode``.
MODES = ("off", "manual", "auto")


@dataclass(frozen=True)
class Wish:
    """A skill's name, or whether one is looked for, and whether that was asked for of this run."""

    name: str = ""
    looks: bool = False
    explicit: bool = False

    def offer(
        self,
        host: Host,
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
        from cmbagent_nb.skills.matching.offering import SkillOffer, Wanted

        wanted = Wanted(
            ask=not request.gates and (self.explicit or bool(request.options.approve)),
            required_tags=tags_of(required_tags),
            parameters=dict(parameters or {}),
            alone=request.gates != "reject",
        )
        return SkillOffer(
            host,
            request.settings,
            request.registry,
            request.model,
            wanted,
            inputs=dict(inputs or {}),
            no_model=no_model,
        )


def read_wish(skill: str | None, auto_match: bool, settings: Settings) -> Wish:
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
        return Wish(looks=said.lower() == "auto", explicit=True)
    if said:
        if auto_match:
            raise UsageError(f"the skill {said} is named and one is to be looked for", "Leave one of them out.")
        return Wish(name=said, explicit=True)
    return Wish(looks=auto_match or settings.skill_mode == "auto", explicit=auto_match)
