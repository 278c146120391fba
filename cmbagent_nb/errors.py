"""Defines every error that a user can meet.

One base, :class:`CMBAgentError`. What went wrong and what to do next are kept apart, and
what the error is about is an attribute, so that a front end can show or handle it without
parsing text.

>>> error = RunNotFound("no run matches 'abc'", "List the runs with %cmbagent runs.", reference="abc")
>>> str(error)
"No run matches 'abc'. List the runs with %cmbagent runs."
>>> error.reference
'abc'
"""

from __future__ import annotations

from typing import Any


class CMBAgentError(Exception):
    """The base of all errors of cmbagent_nb.

    Parameters
    ----------
    what
        What went wrong: one sentence, or a part of one, without a full stop.
    next_step
        What the user can do about it: one full sentence.
    data
        What the error is about; each becomes an attribute.
    """

    #: The exit status that the command line gives for this error.
    exit_status = 1

    def __init__(self, what: str, next_step: str = "", **data: Any) -> None:
        from cmbagent_nb.redaction import scrub

        self.what = scrub(what)
        self.next_step = scrub(next_step)
        super().__init__(self.what, self.next_step)
        self.data = data

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it in a cell: one line, since it says itself what to do."""
        return [f"{type(self).__name__}: {self}"]

    def __str__(self) -> str:
        what = self.what[:1].upper() + self.what[1:]
        return f"{what.rstrip('.')}. {self.next_step}".strip()


class UsageError(CMBAgentError):
    """A command, option or argument that cannot be used like this."""

    exit_status = 2


class SettingsError(UsageError):
    """A setting in the environment or in ``config.toml`` that cannot be used."""


class InputError(UsageError):
    """An input variable or file that is missing or cannot be stored."""


class WorkDirError(UsageError):
    """A work directory that cannot be used."""


class DiskFull(WorkDirError):
    """A disk that is full, and no space was made while a run waited."""


class RunNotFound(UsageError):
    """No run, or no node or file of a run, has this name or id."""


class AmbiguousReference(UsageError):
    """A name or part of an id that fits more than one run."""


class MissingExtra(UsageError):
    """An optional package is needed and not installed."""


class StoreError(CMBAgentError):
    """The database or the journal cannot be read or written."""


class DatabaseTooNew(StoreError):
    """The database was made by a newer version of cmbagent_nb."""

    exit_status = 2


class ModelError(CMBAgentError):
    """A model cannot be found, reached or used."""


class NoModel(ModelError):
    """There is no model to take and no playbook for this task."""

    exit_status = 2


class UnknownModel(ModelError):
    """The model's provider or playbook is not known."""

    exit_status = 2


class MissingKey(ModelError):
    """The provider needs an API key that is not in the environment."""

    exit_status = 2


class ModelCallFailed(ModelError):
    """A model call failed and trying again did not help."""


class PlaybookMiss(ModelError):
    """A playbook has no recorded reply for this call."""


class ReplayDiffers(ModelError):
    """A run that is replayed asked for something that the recorded run had not asked for."""


class BudgetExceeded(CMBAgentError):
    """The next model call would go over the run's budget."""


class ReplyInvalid(CMBAgentError):
    """A model's reply does not have the form that was asked for, even after asking again."""


class PlanRefused(ReplyInvalid):
    """A plan with a cycle, an unknown agent or an unknown dependency."""


class PlanTooLong(PlanRefused):
    """A plan with more steps than the limit allows; ``steps`` and ``limit`` are attributes."""


class StateError(CMBAgentError):
    """A change of status that the state machine does not allow."""


class GateError(UsageError):
    """An answer that a gate cannot take, or a gate that is not open."""


class GateAlreadyAnswered(GateError):
    """Another answer to a gate holds: its ``resolution``, ``feedback``, ``by`` and ``at`` are attributes."""

    exit_status = 1


class GateChanged(GateError):
    """An answer was meant for something else than what the gate shows."""

    exit_status = 1


class GateNotTaken(GateError):
    """The process of a run has not taken an answer yet."""

    exit_status = 1


class ExecutionFailed(CMBAgentError):
    """Generated code could not be run."""


class RunFailed(CMBAgentError):
    """A run ended without reaching its goal."""


class SkillError(CMBAgentError):
    """A skill cannot be made, found or run."""


class StepsNotFound(SkillError):
    """A choice of steps that cannot be read, or that the run does not have."""

    exit_status = 2


class SkillDeviated(SkillError):
    """A skill deviated from its earlier executions, and no agent may or can adapt it."""


class SkillNotFound(SkillError):
    """No skill has this name or id."""

    exit_status = 2


class SkillRefused(SkillError):
    """A skill from elsewhere is not taken: its files are not right, or its source is not allowed."""


class SkillUntrusted(SkillError):
    """An imported skill whose code is not trusted yet, or whose files have changed since."""
