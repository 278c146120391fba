"""Plays recorded replies that stand in for a model.

A playbook is a folder with a ``playbook.yaml`` and, beside it, the code and the reports of its
replies as files of their own. It answers by agent, node, attempt and ordinal; it never answers
what it does not hold, and it cannot react to comments. What it makes is labelled as such.

=============  ===============================================================================
``replies``    each ``{agent, node, attempt: 1, ordinal: 1, reply: text or mapping}``
``code``       a file beside it that becomes the reply's ``python_code``
``markdown``   a file beside it that becomes the reply's ``markdown``
``tool``       instead of ``reply``: the call of a tool, with ``arguments``; ``calls`` is a list of such
=============  ===============================================================================

Looking playbooks up imports neither AG2 nor anything heavy.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import ModelError, PlaybookMiss, UnknownModel
from cmbagent_nb.llm.model_call import current_call
from cmbagent_nb.llm.spec import HOW_TO_SET
from cmbagent_nb.settings import user_path

if TYPE_CHECKING:
    from ag2.events import ModelResponse

#: Where the playbooks of the package are.
FOLDER = Path(__file__).parent / "playbooks"
FILE_NAME = "playbook.yaml"
_FIELDS = frozenset({"name", "title", "task", "mode", "model", "note", "inputs", "replies"})
_REPLY_FIELDS = frozenset(
    {"agent", "node", "attempt", "ordinal", "reply", "code", "markdown", "tool", "arguments", "calls"}
)


@dataclass(frozen=True, slots=True)
class PlaybookInfo:
    """One entry of the list of playbooks."""

    name: str
    title: str
    task: str
    mode: str
    note: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded reply: a text, or calls of tools as pairs (name, arguments)."""

    text: str | None
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True)
class Playbook:
    """A playbook, read from its folder."""

    name: str
    title: str
    task: str
    mode: str
    note: str
    inputs: Mapping[str, str]
    folder: Path
    replies: Mapping[tuple[str, str, int, int], Recorded] = field(repr=False)

    #: A playbook holds only what was recorded: it cannot answer a comment.
    can_react = False

    @classmethod
    def load(cls, name: str) -> Playbook:
        """Read a playbook by its name, or by the path of a folder that holds a ``playbook.yaml``.

        Raises
        ------
        UnknownModel
            There is no such playbook.
        ModelError
            Its file cannot be read; the error names the place.
        """
        file = FOLDER / name / FILE_NAME
        if "/" in name or "\\" in name:
            given = user_path(name)
            file = given if given.name == FILE_NAME else given / FILE_NAME
        if not file.is_file():
            names = _names()
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean playbook:{close[0]}?" if close else f"There are: {', '.join(names) or 'none'}."
            raise UnknownModel(f"there is no playbook {name!r}", hint, model=f"playbook:{name}")
        return _read(file, file.stat().st_mtime_ns)

    @property
    def info(self) -> PlaybookInfo:
        """The playbook's entry in the list of playbooks."""
        return PlaybookInfo(self.name, self.title, self.task, self.mode, self.note)

    def find(self, agent: str, node_id: str, attempt: int, ordinal: int) -> Recorded:
        """Return the reply recorded for a call; one for a sub-agent may be recorded at its step.

        Raises
        ------
        PlaybookMiss
            None was recorded; the error says what a playbook cannot do and how to set a model.
        """
        node = node_id
        while node:
            recorded = self.replies.get((agent, node, attempt, ordinal))
            if recorded is not None:
                return recorded
            node = node.rpartition(".")[0]
        place = f"{agent} in {node_id}, attempt {attempt}, call {ordinal}"
        earlier = any(
            key[0] == agent and key[1] == node_id.partition(".")[0] and key[2:] < (attempt, ordinal)
            for key in self.replies
        )
        why = (
            "a playbook holds only recorded replies and cannot react to comments or do a step again"
            if earlier
            else "a playbook holds only the recorded replies of its own task"
        )
        raise PlaybookMiss(
            f"the playbook {self.name!r} has no reply for {place}: {why}",
            HOW_TO_SET,
            playbook=self.name,
            agent=agent,
            node_id=node_id,
            attempt=attempt,
            ordinal=ordinal,
        )


def playbooks() -> list[PlaybookInfo]:
    """List the playbooks of the package."""
    return [Playbook.load(name).info for name in _names()]


def find_for_task(task: str) -> str | None:
    """Return the name of the playbook that was recorded for exactly this task, if there is one."""
    wanted = normalised(task)
    return next((item.name for item in playbooks() if normalised(item.task) == wanted), None)


def normalised(task: str) -> str:
    """Return a task without differences of case and white space.

    >>> normalised("  Fit the\\n  DATA ") == normalised("fit the data")
    True
    """
    return " ".join(task.split()).casefold()


def _names() -> list[str]:
    if not FOLDER.is_dir():
        return []
    return sorted(item.name for item in FOLDER.iterdir() if (item / FILE_NAME).is_file())


@lru_cache(maxsize=32)
def _read(file: Path, changed_at: int) -> Playbook:
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise _broken(file, "it is nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _broken(file, f"it cannot be read ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("replies"), list):
        raise _broken(file, "it is not a mapping with a list of replies")
    unknown = set(data) - _FIELDS
    if unknown or not data.get("name"):
        raise _broken(file, f"unknown field {sorted(unknown)[0]!r}" if unknown else "it has no name")
    replies: dict[tuple[str, str, int, int], Recorded] = {}
    for number, item in enumerate(data["replies"], start=1):
        key, recorded = _reply(file, number, item)
        if key in replies:
            raise _broken(file, f"reply {number} is recorded twice for {key}")
        replies[key] = recorded
    name = str(data["name"])
    return Playbook(
        name=name,
        title=str(data.get("title") or name),
        task=str(data.get("task") or ""),
        mode=str(data.get("mode") or "one_shot"),
        note=str(data.get("note") or ""),
        inputs={str(key): str(value) for key, value in (data.get("inputs") or {}).items()},
        folder=file.parent,
        replies=replies,
    )


def _reply(file: Path, number: int, item: Any) -> tuple[tuple[str, str, int, int], Recorded]:
    if not isinstance(item, dict) or not item.get("agent") or not item.get("node"):
        raise _broken(file, f"reply {number} does not name its agent and node")
    unknown = set(item) - _REPLY_FIELDS
    if unknown:
        raise _broken(file, f"reply {number} has the unknown field {sorted(unknown)[0]!r}")
    try:
        key = (str(item["agent"]), str(item["node"]), int(item.get("attempt", 1)), int(item.get("ordinal", 1)))
    except (TypeError, ValueError):
        raise _broken(file, f"attempt and ordinal of reply {number} are not whole numbers") from None
    calls = item.get("calls") or ([item] if "tool" in item else [])
    if calls:
        return key, Recorded(None, tuple((str(call["tool"]), dict(call.get("arguments") or {})) for call in calls))
    if "reply" not in item:
        raise _broken(file, f"reply {number} has neither a reply nor a tool")
    reply = item["reply"]
    if not isinstance(reply, dict):
        return key, Recorded(str(reply))
    filled = dict(reply)
    for form, name in (("code", "python_code"), ("markdown", "markdown")):
        if form in item:
            filled[name] = _beside(file, number, str(item[form]))
    return key, Recorded(json.dumps(filled, ensure_ascii=False))


def _beside(file: Path, number: int, name: str) -> str:
    path = (file.parent / name).resolve()
    if not path.is_relative_to(file.parent.resolve()):
        raise _broken(file, f"reply {number} names {name!r}, which is outside of the playbook's folder")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(file, f"reply {number} names {name!r}, which cannot be read ({error})") from error


def _broken(file: Path, why: str) -> ModelError:
    return ModelError(f"the playbook {file} is broken: {why}", "Correct the file.", path=str(file))


class PlaybookConfig:
    """The AG2 model configuration of a playbook."""

    def __init__(self, playbook: Playbook) -> None:
        self.playbook = playbook

    @property
    def provider(self) -> str:
        """Name what answers."""
        return "playbook"

    @property
    def model(self) -> str:
        """Name the playbook."""
        return self.playbook.name

    def copy(self) -> PlaybookConfig:
        """Return itself: there is nothing to change."""
        return self

    def create(self) -> PlaybookClient:
        """Make the client."""
        return PlaybookClient(self.playbook)


class PlaybookClient:
    """Answers a call of the gateway with the reply recorded for it."""

    def __init__(self, playbook: Playbook) -> None:
        self.playbook = playbook

    async def __call__(self, messages: Sequence[Any], context: Any, **options: Any) -> ModelResponse:
        """Return the recorded reply as a model's response."""
        from ag2.events import ModelMessage, ModelResponse, ToolCallEvent, ToolCallsEvent, Usage

        call = current_call()
        if call is None:
            raise PlaybookMiss("a playbook answers only within a run", HOW_TO_SET, playbook=self.playbook.name)
        recorded = self.playbook.find(call.agent, call.node_id, call.attempt, call.ordinal)
        place = f"{call.node_id}-{call.agent}-{call.attempt}-{call.ordinal}"
        return ModelResponse(
            message=None if recorded.text is None else ModelMessage(recorded.text),
            tool_calls=ToolCallsEvent(
                [
                    ToolCallEvent(name, id=f"call-{place}-{number}", arguments=json.dumps(arguments))
                    for number, (name, arguments) in enumerate(recorded.calls, start=1)
                ]
            ),
            usage=Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0),
            model=self.playbook.name,
            provider="playbook",
            finish_reason="tool_calls" if recorded.calls else "stop",
        )
