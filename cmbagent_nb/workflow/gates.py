"""Gates: the places where a run waits for a person.

A gate is a row in ``approval_requests`` and a future on the event loop. Every answer (button, panel, magic, command
line, REST, Python) passes :func:`cmbagent_nb.workflow.answering.answer_gate` and ends in :meth:`Gates.answer`. Only
the first counts: it is written with ``WHERE status = 'pending'`` before the run acts on it; the others are told which
holds.

An answer holds for what was shown, not for a place: it is kept with the hash of the question, and counts after a
resume only where the same is asked again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import GateAlreadyAnswered, GateChanged, GateError, UsageError
from cmbagent_nb.ids import new_id, short
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.store.approvals import find_gate
from cmbagent_nb.store.json import from_json, to_json

if TYPE_CHECKING:
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.journaled import JournaledWriter

#: The gates that can be asked for, and the presets that stand for several of them.
MODES = ("plan", "before_step", "after_step", "error", "tool", "manual")
PRESETS: Mapping[str, tuple[str, ...]] = {
    "autonomous": (),
    "none": (),
    "review_plan": ("plan",),
    "step_by_step": ("plan", "before_step", "error"),
    "error_recovery": ("error",),
    "copilot": ("plan", "before_step", "after_step", "error", "tool"),
}
#: Other words for the same gates.
ALIASES = {
    "plans": "plan",
    "steps": "before_step",
    "step": "before_step",
    "before_steps": "before_step",
    "after_steps": "after_step",
    "errors": "error",
    "tools": "tool",
}
#: How ``CMBAGENT_GATES`` answers each type of gate.
POLICIES: Mapping[str, Mapping[str, str]] = {
    "approve": {
        "plan_approval": "approved",
        "step_approval": "approved",
        "error_recovery": "skip",
        "tool_call": "approved",
        "manual_pause": "approved",
        "skill_match": "use",
    },
    "reject": {
        "plan_approval": "rejected",
        "step_approval": "rejected",
        "error_recovery": "abort",
        "tool_call": "abort",
        "manual_pause": "rejected",
        "skill_match": "plan",
    },
    "default": {
        "plan_approval": "approved",
        "step_approval": "approved",
        "error_recovery": "abort",
        "tool_call": "abort",
        "manual_pause": "approved",
        "skill_match": "plan",
    },
}

PLAN_OPTIONS = (("approved", "Approve"), ("modified", "Ask for changes"), ("rejected", "Reject"))
STEP_OPTIONS = (("approved", "Continue"), ("redo", "Redo, with my comment"), ("rejected", "Stop the run"))
START_OPTIONS = (("approved", "Start"), ("skip", "Skip the step"), ("rejected", "Stop the run"))
ERROR_OPTIONS = (("retry", "Try again"), ("skip", "Skip the step"), ("abort", "Stop the run"))
PAUSE_OPTIONS = (("approved", "Continue"), ("rejected", "Stop the run"))
SKILL_OPTIONS = (("use", "Use the skill"), ("plan", "Plan instead"))
TOOL_OPTIONS = (("approved", "Run it"), ("rejected", "No, tell the engineer why"), ("abort", "Stop the run"))

#: Answers that say nothing without a comment.
NEEDS_COMMENT = frozenset({"modified", "redo"})


def modes(text: str | None) -> frozenset[str]:
    """Read a list of gates such as ``"plan,errors"`` or the name of a preset.

    >>> sorted(modes("plan, errors"))
    ['error', 'plan']
    >>> sorted(modes("review_plan"))
    ['plan']

    Raises
    ------
    UsageError
        A word is neither a gate nor a preset.
    """
    found: set[str] = set()
    for word in (text or "").replace(",", " ").split():
        name = word.strip().lower().replace("-", "_")
        name = ALIASES.get(name, name)
        if name in PRESETS:
            found.update(PRESETS[name])
        elif name in MODES:
            found.add(name)
        else:
            raise UsageError(
                f"there is no gate called {word!r}",
                f"Gates are {', '.join(MODES)}; presets are {', '.join(PRESETS)}.",
                gate=word,
            )
    return frozenset(found)


def policy(name: str) -> Mapping[str, str] | None:
    """Return how gates are answered without a person, for a value of ``CMBAGENT_GATES``.

    Raises
    ------
    UsageError
        The value is not one of approve, reject, default.
    """
    if not name:
        return None
    if name not in POLICIES:
        raise UsageError(f"gates cannot be set to {name!r}", f"Use one of {', '.join(POLICIES)}.", policy=name)
    return POLICIES[name]


@dataclass(frozen=True)
class Answer:
    """A decision at a gate: who decided what about which thing, and with which words."""

    approval_id: str
    resolution: str
    feedback: str
    by: str
    #: The hash of what was shown; :data:`ANYTHING` for a recorded decision that is replayed.
    hash: str = ""


#: The hash of an answer that holds whatever is shown.
ANYTHING = "*"


@dataclass(frozen=True)
class Question:
    """Question of a gate: its content, and the answers that it takes.

    ``subject`` is what the answer is about, in a form that is the same when the same is asked again; where it is empty,
    everything that is shown is.
    """

    kind: str
    title: str
    options: tuple[tuple[str, str], ...]
    body: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    subject: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(context: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a gate shows, from its row's ``context``.

    >>> first = {"title": "Run?", "code": "print(1)", "moment": "tool:1"}
    >>> fingerprint(first) == fingerprint({**first, "moment": "tool:2"})
    True
    >>> fingerprint(first) == fingerprint({**first, "code": "print(2)"})
    False
    """
    about = context.get("subject") or {name: value for name, value in context.items() if name not in _NOT_HASHED}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


_LIST = "List the open gates with %cmbagent approvals."
_NOT_HASHED = frozenset({"moment", "options", "hash", "note"})


@dataclass
class _Open:
    future: asyncio.Future[Answer]
    options: frozenset[str]
    hash: str


class Gates:
    """The gates of one run; every method belongs to the event loop."""

    def __init__(
        self,
        writer: Writer,
        journaled: JournaledWriter,
        recorder: Recorder,
        run_id: str,
        session_id: str,
        answers: str = "",
        given: Mapping[tuple[str, str], Answer] | None = None,
    ) -> None:
        self._writer = writer
        self._recorder = recorder
        self._run_id = run_id
        self._session_id = session_id
        self._journaled = journaled
        self._policy = policy(answers)
        self._policy_name = answers
        self._given = dict(given or {})
        self._open: dict[str, _Open] = {}
        self._loop = asyncio.get_running_loop()

    @property
    def attended(self) -> bool:
        """Tell whether a person answers the run's gates."""
        return self._policy is None

    def context(self, question: Question, moment: str) -> dict[str, Any]:
        """Return what the gate's row holds of a question: secrets are masked, and the hash is of what is shown."""
        context: dict[str, Any] = {
            "title": question.title,
            "body": question.body,
            "moment": moment,
            "options": [
                {"id": name, "label": label, "needs_comment": name in NEEDS_COMMENT} for name, label in question.options
            ],
            **question.details,
            **({"subject": question.subject} if question.subject else {}),
        }
        context = from_json(self._writer.scrub(to_json(context)))
        return {**context, "hash": fingerprint(context)}

    async def ask(
        self,
        question: Question,
        node_id: str | None,
        moment: str,
        *,
        on_open: Callable[[str], None] | None = None,
    ) -> Answer:
        """Open a gate and wait for its answer; cancelling the wait closes the gate as cancelled.

        ``moment`` says which of the node's gates this is, such as ``after:2`` for the one after its second attempt.
        A gate that was answered before its run was interrupted is not asked again, unless it shows something else now.
        """
        given = None if node_id is None else self.given(question, node_id, moment)
        if given is not None:
            return given
        context, kind = self.context(question, moment), question.kind
        if node_id is not None and self._given.pop((node_id, moment), None) is not None:
            context["note"] = "This has changed since it was decided, so that it is asked again."
        approval_id = new_id()
        names = frozenset(name for name, _ in question.options)
        with self._recorder.span(
            "approval",
            subtype="requested",
            agent="you",
            inputs={"approval_id": approval_id, "title": question.title, "kind": kind, "hash": context["hash"]},
        ) as span:
            gate = _Open(self._loop.create_future(), names, context["hash"])
            self._open[approval_id] = gate
            self._journaled.insert(
                "gate_opened",
                "approval_requests",
                {
                    "id": approval_id,
                    "run_id": self._run_id,
                    "session_id": self._session_id,
                    "node_id": node_id,
                    "event_id": span.id,
                    "approval_type": kind,
                    "context": context,
                    "status": "pending",
                    "created_at": time.time(),
                },
            )
            if on_open is not None:
                on_open(approval_id)
            try:
                if self._policy is not None:
                    by = f"CMBAGENT_GATES={self._policy_name}"
                    await self._resolve(approval_id, self._policy[kind], "", by, gate.hash, new_id())
                answer = await gate.future
            except asyncio.CancelledError:
                self._close(approval_id)
                raise
            finally:
                self._open.pop(approval_id, None)
            span.subtype = (
                answer.resolution if answer.resolution in ("approved", "rejected", "modified") else "approved"
            )
            span.outputs = {"resolution": answer.resolution, "feedback": answer.feedback, "by": answer.by}
            return answer

    def _close(self, approval_id: str) -> None:
        """Close a gate that nobody waits at any more, unless it was answered in the last moment."""
        values = {"status": "cancelled", "resolved_at": time.time()}
        closed = self._writer.call(lambda connection: _withdraw(connection, approval_id, values))

        def note(done: concurrent.futures.Future[bool]) -> None:
            if not done.cancelled() and done.exception() is None and done.result():
                self._journaled.changed("gate_closed", "approval_requests", approval_id, values)

        closed.add_done_callback(note)

    def given(self, question: Question, node_id: str, moment: str) -> Answer | None:
        """Return, once, the answer that this question got before its run was interrupted."""
        answer = self._given.get((node_id, moment))
        if answer is None or answer.hash not in (self.context(question, moment)["hash"], ANYTHING):
            return None
        return self._given.pop((node_id, moment))

    def is_open(self, approval_id: str) -> bool:
        """Tell whether this gate waits for an answer here."""
        return approval_id in self._open

    async def answer(
        self,
        approval_id: str,
        resolution: str,
        feedback: str = "",
        *,
        by: str = "you",
        hash: str = "",
        answer_id: str = "",
    ) -> Answer:
        """Answer a gate; ``hash`` is that of what whoever answers has seen, ``answer_id`` tells the answers apart.

        Raises
        ------
        GateAlreadyAnswered
            Another answer holds.
        GateChanged
            The gate shows something else than what was seen.
        GateError
            The gate is not open, does not know this answer, or the answer needs a comment.
        """
        gate = self._open.get(approval_id)
        if gate is None:
            raise closed(await in_thread(find_gate, self._writer.db, approval_id), approval_id)
        check_answer(gate.options, resolution, feedback)
        check_hash(gate.hash, hash, approval_id)
        return await self._resolve(approval_id, resolution, feedback, by, gate.hash, answer_id or new_id())

    async def _resolve(
        self, approval_id: str, resolution: str, feedback: str, by: str, hash: str, answer_id: str
    ) -> Answer:
        answer = Answer(approval_id, resolution, self._writer.scrub(feedback), by, hash)
        won = await asyncio.shield(
            asyncio.wrap_future(self._writer.call(lambda connection: _store(connection, answer, answer_id)))
        )
        if not won:
            raise closed(await in_thread(find_gate, self._writer.db, approval_id), approval_id)
        values = {"status": "resolved", "resolution": resolution, "user_feedback": answer.feedback, "resolved_by": by}
        self._journaled.changed("gate_answered", "approval_requests", approval_id, values)
        gate = self._open.get(approval_id)
        if gate is not None and not gate.future.done():
            gate.future.set_result(answer)
        return answer


def closed(gate: Mapping[str, Any] | None, reference: str, where: str = "") -> GateError:
    """Return why a gate takes no answer: another holds, nobody waits there any more, or there is no such gate.

    >>> print(closed({"id": "12345678", "status": "resolved", "resolution": "approved", "resolved_by": "Ann"}, ""))
    Gate 12345678 was already answered by Ann: approved. Your answer does not count; the run has gone on.
    """
    if gate is None:
        return GateError(
            f"no gate matches {reference!r}", "List the open gates with %cmbagent approvals.", id=reference
        )
    name = short(str(gate["id"]))
    if gate["status"] == "resolved":
        who = f" by {gate['resolved_by']}" if gate.get("resolved_by") else ""
        return GateAlreadyAnswered(
            f"{where}gate {name} was already answered{who}: {gate['resolution']}",
            "Your answer does not count; the run has gone on.",
            id=gate["id"],
            run_id=gate.get("run_id"),
            resolution=gate["resolution"],
            feedback=gate.get("user_feedback") or "",
            by=gate.get("resolved_by"),
            at=gate.get("resolved_at"),
        )
    return GateError(
        f"{where}gate {name} is {gate['status']}; the run does not wait there any more",
        _LIST,
        id=gate["id"],
        status=gate["status"],
    )


def usual(how: str, options: Collection[str]) -> str:
    """Return the option that ``approve`` or ``reject`` means at a gate.

    >>> usual("approve", ["approved", "modified", "rejected"]), usual("reject", ["retry", "skip", "abort"])
    ('approved', 'abort')
    >>> usual("approve", ["use", "plan"]), usual("reject", ["use", "plan"])
    ('use', 'plan')
    """
    wanted = ("approved", "retry", "use") if how == "approve" else ("rejected", "abort", "plan")
    return next((option for option in wanted if option in options), wanted[0])


def check_answer(options: frozenset[str], resolution: str, feedback: str) -> None:
    """Raise :class:`~cmbagent_nb.errors.GateError` when a gate cannot take this answer."""
    if resolution not in options:
        raise GateError(
            f"this gate cannot be answered with {resolution!r}",
            f"It takes {', '.join(sorted(options))}.",
            resolution=resolution,
        )
    if resolution in NEEDS_COMMENT and not feedback.strip():
        raise GateError(f"{resolution!r} needs a comment", "Say what to change.", resolution=resolution)


def check_hash(shown: str, seen: str, approval_id: str) -> None:
    """Raise :class:`~cmbagent_nb.errors.GateChanged` when an answer is about something else than what is shown."""
    if seen and seen != shown:
        raise GateChanged(
            f"gate {short(approval_id)} shows something else than what you answered",
            "Look at it again with %cmbagent approvals, then answer.",
            id=approval_id,
            hash=shown,
        )


def _withdraw(connection: Connection, approval_id: str, values: Mapping[str, Any]) -> bool:
    statement = "UPDATE approval_requests SET status = :status, resolved_at = :resolved_at"
    result = connection.execute(f"{statement} WHERE id = :id AND status = 'pending'", {**values, "id": approval_id})
    return bool(result.rowcount)


def _store(connection: Connection, answer: Answer, answer_id: str) -> bool:
    result = connection.execute(
        "UPDATE approval_requests SET status = 'resolved', resolution = :resolution, user_feedback = :feedback,"
        " resolved_by = :by, resolved_at = :now, result = :result WHERE id = :id AND status = 'pending'",
        {
            "id": answer.approval_id,
            "resolution": answer.resolution,
            "feedback": answer.feedback,
            "by": answer.by,
            "now": time.time(),
            "result": to_json(
                {
                    "resolution": answer.resolution,
                    "feedback": answer.feedback,
                    "hash": answer.hash,
                    "answer_id": answer_id,
                }
            ),
        },
    )
    return bool(result.rowcount)
