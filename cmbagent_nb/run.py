"""A run: what a user holds while it goes on and after it has ended."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.deprecation import renamed
from cmbagent_nb.errors import GateError, RunFailed, RunNotFound, StateError, StoreError, WorkDirError
from cmbagent_nb.ids import short
from cmbagent_nb.logs import get_logger
from cmbagent_nb.runtime import Runtime

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.store.node_record import NodeDetail
    from cmbagent_nb.store.snapshot import Snapshot
    from cmbagent_nb.workflow.gates import Answer
    from cmbagent_nb.workflow.history import State
    from cmbagent_nb.workflow.process_state import LiveRun, WorkspaceHandle
    from cmbagent_nb.workflow.replay import Replay
    from cmbagent_nb.workflow.stream import StreamEvent
    from cmbagent_nb.workflow.workspace_core import WorkspaceCore

LOG = get_logger(__name__)

#: The names of 0.1, with those that took their place; they work for one release.
_ALIASES = {"at": "state_at", "prune": "prune_checkpoints", "decisions": "gates"}

#: Seconds between two looks at whether the process of a run still lives, while its end is waited for elsewhere.
LOOK = 1.0
#: Seconds after which a loop that waits wakes, to hear an interrupt.
POLL = 0.2
#: Seconds that who waits for a run's end also waits for its callbacks, which may be behind.
DRAIN = 2.0
#: Rows that a slow listener reads at once.
PAGE = 500


@dataclass(frozen=True)
class Result:
    """Result of a run: its report, or the output of its code."""

    text: str
    report: str | None
    files: Sequence[str] = field(default_factory=tuple)
    work_dir: Path = field(default_factory=Path)
    #: The skill that was made of the run, if one was asked for: name, version, status, summary, or the error.
    skill: Mapping[str, Any] | None = None
    #: A line for each file that steps wrote which do not depend on each other.
    conflicts: Sequence[str] = ()

    def __str__(self) -> str:
        return "\n\n".join([self.text, *(f"Conflict: {line}" for line in self.conflicts), *self._of_skill()])

    def _of_skill(self) -> list[str]:
        if not self.skill:
            return []
        if self.skill.get("error"):
            return [f"No skill was made: {self.skill['error']}"]
        return [f"Skill {self.skill.get('name')} v{self.skill.get('version')}: {self.skill.get('summary')}"]

    def _repr_html_(self) -> str:
        from cmbagent_nb.render.markdown import markdown_html
        from cmbagent_nb.render.text import esc

        notes = [*(f"Conflict: {line}" for line in self.conflicts), *self._of_skill()]
        skill = "".join(f"<p>{esc(line)}</p>" for line in notes)
        if self.report:
            return markdown_html(self.text, self.work_dir) + skill
        figures = "\n\n".join(f"![{name}](<{name}>)" for name in self.files if name.lower().endswith(".png"))
        return f"<pre>{esc(self.text)}</pre>" + markdown_html(figures, self.work_dir) + skill


class Lineage:
    """Lineage of a file: a chain from the file back to the task. A list of dicts as ``links``."""

    def __init__(self, path: str, links: list[dict[str, Any]]) -> None:
        self.path = path
        self.links = links

    def __iter__(self) -> Any:
        return iter(self.links)

    def __len__(self) -> int:
        return len(self.links)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.links[index]

    def __repr__(self) -> str:
        return "\n← ".join(str(link["label"]) for link in self.links)

    def to_frame(self) -> pd.DataFrame:
        """Return the chain as a DataFrame, a row for each link."""
        import pandas as pd

        return pd.DataFrame(self.links)

    def _repr_html_(self) -> str:
        from cmbagent_nb.render.lineage import lineage_html

        return lineage_html(self.links)


class Run:
    """One execution of a task; made by :meth:`cmbagent_nb.Workspace.start` or found by ``ws.run(name)``.

    It can be held by the process that runs it or by any other: what it shows comes from the record, and
    what it asks for reaches the process that owns the run.
    """

    def __init__(self, host: WorkspaceHandle, run_id: str, *, live: LiveRun | None = None) -> None:
        self._host = host
        self._started = live
        self.id = run_id
        row = self._row()
        self.name = str(row["name"])
        self.mode = str(row["mode"])
        self.model = str(row["model"])
        self.model_source = str(row["model_source"])
        self.task = str(row["task_description"])
        self.session_id = str(row["session_id"])
        if not row["work_dir"]:
            raise StoreError(
                f"the record of run {self.name} does not say where its folder is",
                "Run `cmbagent doctor --repair`: it takes what is damaged from the journals of the runs.",
                damaged=True,
            )
        self.work_dir = Path(row["work_dir"])

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.status}, id …{short(self.id)})"

    if not TYPE_CHECKING:  # a type checker reports the old names

        def __getattr__(self, name: str) -> Any:
            return renamed(self, name, _ALIASES, "run")

    @property
    def _live(self) -> LiveRun | None:
        """The run as it goes on in this process, also when it was resumed since; ``None`` when it does not."""
        live = self._host.live.get(self.id) or self._started
        return live if live is not None and not live.ended.done() else None

    def _row(self) -> dict[str, Any]:
        rows = self._host.db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=self.id)
        if not rows:
            raise RunNotFound(f"run {short(self.id)} is not in the record any more", "List the runs with ws.runs().")
        return rows[0]

    # ---- how it stands

    @property
    def status(self) -> str:
        """One of draft, planning, executing, paused, waiting_approval, completed, failed, cancelled, interrupted."""
        return str(self._row()["status"])

    @property
    def finished(self) -> bool:
        """Tell whether the run has come to its end."""
        from cmbagent_nb.workflow.states import ENDED

        return self._live is None and self.status in ENDED

    @property
    def error(self) -> str | None:
        """Why the run failed, if it did."""
        found = self._row()["error"]
        return None if found is None else str(found)

    @property
    def plan(self) -> dict[str, Any] | None:
        """The plan that the run follows, once there is one."""
        from cmbagent_nb.store.json import from_json

        found = self._row()["plan"]
        return from_json(found) if found else None

    @property
    def cost_usd(self) -> float | None:
        """Cost of the model calls so far in US dollars; ``None`` when the cost of one is not known."""
        row = self._host.db.rows(
            "SELECT COALESCE(SUM(cost_usd), 0) AS total, COUNT(*) - COUNT(cost_usd) AS unknown FROM cost_records"
            " WHERE run_id = :id",
            id=self.id,
        )[0]
        return None if row["unknown"] else float(row["total"])

    @property
    def result(self) -> Result:
        """Result of the run; waits for its end.

        Raises
        ------
        RunFailed
            The run failed, was cancelled or was interrupted.
        """
        self.wait()
        row = self._row()
        if row["status"] != "completed":
            raise RunFailed(
                f"run {self.name} is {row['status']}" + (f": {row['error']}" if row["error"] else ""),
                f"What it did is in run.events() and in {self.work_dir}.",
                run_id=self.id,
                status=row["status"],
            )
        return self._result(row)

    def _result(self, row: dict[str, Any]) -> Result:
        from cmbagent_nb.store.json import from_json

        found = from_json(row["result"]) if row["result"] else {}
        files = tuple(found.get("files", ()))
        conflicts = tuple(found.get("conflicts", ()))
        return Result(found.get("text", ""), found.get("report"), files, self.work_dir, found.get("skill"), conflicts)

    def snapshot(self) -> Snapshot:
        """Return everything that a view of the run shows, as it stands now."""
        from cmbagent_nb.store.snapshot import read_snapshot

        found = read_snapshot(self._host.db, self.id)
        found.run["trouble"] = "" if found.finished else self.trouble
        return found

    def node(self, node_id: str) -> NodeDetail:
        """Return everything that the record has of one node, by attempt: prompts, code, output, errors, files."""
        from cmbagent_nb.store.node_record import read_node

        return read_node(self._host.db, self.id, node_id)

    @property
    def trouble(self) -> str:
        """Reason for which the run or its record waits in this process, such as a full disk; else an empty string."""
        live = self._live
        return (live.blocked_reason if live is not None else "") or self._host.writer.trouble

    # ---- waiting

    def wait(self, timeout: float | None = None) -> Run:
        """Wait for the end of the run, at most ``timeout`` seconds; returns the run.

        Interrupting the wait does not stop the run.

        Raises
        ------
        TimeoutError
            The run goes on still.
        """
        if Runtime.get().inside():
            raise StateError("a run cannot be waited for on the loop that runs it", "Use `await run`.")
        live = self._live
        if live is not None:
            live.ended.result(timeout)
            live.stream.drain(DRAIN)
            return self
        until = None if timeout is None else time.monotonic() + timeout
        changed = threading.Event()
        stop = self.subscribe(changed.set)
        try:
            while not self.finished:
                if until is not None and time.monotonic() > until:
                    raise TimeoutError(f"run {self.name} goes on")
                self._expire()
                changed.wait(LOOK if until is None else min(LOOK, max(0.0, until - time.monotonic())))
                changed.clear()
        finally:
            stop()
        return self

    def _expire(self) -> None:
        """Find out whether the process of the run has died."""
        from cmbagent_nb.workflow.ownership import interrupt_orphans

        interrupt_orphans(self._host.db, self._host.writer)

    def __await__(self) -> Generator[Any, None, Run]:
        return self._ended().__await__()

    async def _ended(self) -> Run:
        live = self._live
        if live is not None:
            # Interrupting the cell that waits does not stop the run. A kernel hears an interrupt only when its loop
            # wakes, so that it wakes now and then.
            ended = asyncio.wrap_future(live.ended)
            while not ended.done():
                await asyncio.wait({ended}, timeout=POLL)
            await asyncio.to_thread(live.stream.drain, DRAIN)
            return self
        return await asyncio.to_thread(self.wait)

    # ---- listening

    def subscribe(self, function: Callable[[], None]) -> Callable[[], None]:
        """Call ``function`` from some thread after every change, also by another process; returns how to stop it."""
        return self._host.subscribe(self.id, function)

    def on(self, kind: str, function: Callable[[StreamEvent], Any]) -> Callable[[], None]:
        """Call ``function`` with every event of a kind such as ``step_completed``, or ``"*"``; returns how to stop it.

        It is called on a thread of its own: a callback that fails or is slow never hurts the run. One that is a
        thousand events behind gets an event ``events_missed`` in place of those that follow; what happened meanwhile
        is ``run.iter_events(after=event["data"]["after"])``. Only the process that runs the run hears its stream.
        """
        return self._owned().stream.on(kind, function)

    def stream(self) -> AsyncIterator[StreamEvent]:
        """Iterate over what happens from now on: ``async for event in run.stream(): …``.

        At most a thousand events wait for a listener that is slower than the run. Nothing that comes after them is
        lost: it is read from the record when the listener gets there, a row of it an event ``event_captured``.
        """
        return self._owned().stream.follow(self._between)

    def _between(self, after: int, upto: int) -> list[dict[str, Any]]:
        """Read a page of the events after one place in their order, up to another."""
        page = itertools.islice(self.iter_events(page=PAGE, after=after), PAGE)
        return [row for row in page if row["execution_order"] <= upto]

    def _owned(self) -> LiveRun:
        live = self._live or self._started
        if live is None:
            raise StateError(f"run {self.name} does not run in this process", "Look at run.events() instead.")
        return live

    # ---- deciding

    def approvals(self) -> list[dict[str, Any]]:
        """Return the run's open gates, oldest first."""
        from cmbagent_nb.store.approvals import open_gates

        return open_gates(self._host.db, self.id)

    def approve(
        self, id: str | None = None, resolution: str = "approved", feedback: str = "", by: str = "you", hash: str = ""
    ) -> Answer:
        """Answer an open gate and return the decision once it holds; the run goes on.

        Parameters
        ----------
        id
            The gate; not needed while the run has only one that is open.
        resolution
            One of the gate's options, such as ``approved``, ``modified`` (with ``feedback``) or ``retry``.
        hash
            The ``hash`` of the gate's ``context`` as it was looked at: nothing else is answered then.

        Raises
        ------
        GateAlreadyAnswered
            Another answer holds: ``error.resolution``, ``error.by``, ``error.feedback``, ``error.at``.
        GateChanged
            The gate shows something else than what has this hash.
        GateError
            There is no such open gate, or it does not take this answer.
        """
        from cmbagent_nb.workflow.answering import answer_gate

        gate = self._gate(id)
        return answer_gate(self._host, gate, resolution, feedback, by=by, hash=hash, live=self._live)

    def reject(self, id: str | None = None, feedback: str = "", by: str = "you", hash: str = "") -> Answer:
        """Answer an open gate with a no: a plan is rejected, code is not run, after a failed step the run ends."""
        return self.approve(id, "rejected", feedback, by, hash)

    def _gate(self, id: str | None) -> dict[str, Any]:
        from cmbagent_nb.store.approvals import find_gate
        from cmbagent_nb.workflow.gates import closed

        gates = self.approvals()
        if id is None:
            last = None if gates else find_gate(self._host.db, "", self.id)
            if last is not None:
                raise closed(last, "", f"run {self.name} has no open gate: ")
            if len(gates) != 1:
                have = "no open gate" if not gates else f"{len(gates)} open gates"
                raise GateError(f"run {self.name} has {have}", "Name one by its id: see run.approvals().", gates=gates)
            return gates[0]
        found = [gate for gate in gates if gate["id"] == id] or [
            gate for gate in gates if gate["id"].startswith(id) or gate["id"].endswith(id)
        ]
        if len(found) == 1:
            return found[0]
        answered = None if found else find_gate(self._host.db, id, self.id)
        if answered is not None:
            raise closed(answered, id)
        raise GateError(f"run {self.name} has no open gate {id!r}", "See run.approvals().", id=id)

    def cancel(self, by: str = "you") -> int:
        """End the run; its processes are killed. Returns at once.

        Of a run that has ended, what its code has left is killed; returns how many processes that were.
        """
        from cmbagent_nb.workflow.commands import send
        from cmbagent_nb.workflow.leftovers import end_leftovers

        live = self._live
        if live is not None:
            live.cancel()
        elif not self.finished:
            send(self._host.writer, self.id, "cancel", {}, by)
        else:
            return end_leftovers(self._host.db, self.id)
        return 0

    def pause(self, *, now: bool = False, by: str = "you") -> None:
        """Let nothing begin from now on: no model call, no process; ``now`` also stops the code that runs.

        Raises
        ------
        StateError
            The run has ended, or is paused already.
        """
        self._command("pause", {"now": now}, by)

    def resume(self, by: str = "you") -> Run:
        """Go on: after a pause, after an interruption, after a failure; returns the run.

        What is finished is not done again. A run that was interrupted or failed is taken over by this process.

        Raises
        ------
        StateError
            The run is not paused, interrupted or failed.
        """
        if self.status == "paused":
            self._command("resume", {}, by)
            return self
        live = resume_run(self._core(), self)
        return Run(self._host, self.id, live=live)

    def _core(self) -> WorkspaceCore:
        from cmbagent_nb.workflow.workspace_core import WorkspaceCore

        return WorkspaceCore(self._host.home, {"database_url": self._host.db.url})

    def _command(self, command: str, arguments: dict[str, Any], by: str) -> None:
        from cmbagent_nb.workflow.commands import send

        if self.finished:
            raise StateError(f"run {self.name} is {self.status}", "Look at it with run.events().")
        live = self._live
        if live is None:
            send(self._host.writer, self.id, command, arguments, by)
            return
        work = live.pause(now=arguments["now"], by=by) if command == "pause" else live.resume(by=by)
        Runtime.get().submit(work).result(timeout=30)

    def replay(self) -> Replay:
        """Go through the run again, without a model: from its recorded replies and decisions; waits for the end.

        Its code is run again. What comes out is a run of its own, and what differs from this one, part by part.
        """
        from cmbagent_nb.workflow.replay import compare, start_replay

        core = self._core()
        live, run_id = start_replay(self._host, self.id, core.settings, core.agents())
        live.ended.result()
        return compare(self._host, self.id, run_id)

    # ---- checkpoints

    def checkpoint(self, name: str = "") -> str:
        """Mark this moment of the run; returns the checkpoint's id.

        Checkpoints are also made after each node and each reply, on a pause, on an error, at the end, and every ten
        minutes if something has changed.

        Raises
        ------
        WorkDirError
            The run's folder, in which its journal is, is not there.
        """
        from cmbagent_nb.store.claims import check as check_folder
        from cmbagent_nb.workflow.checkpoints import Checkpoints

        if not self.work_dir.is_dir():
            raise WorkDirError(f"the folder {self.work_dir} is not there", "Put it back.", path=str(self.work_dir))
        if self._host.db.is_sqlite:
            check_folder(self._host.home, self.work_dir, self.id, self.name)
        points = Checkpoints(self._host.writer, self.work_dir, self.id, self.session_id)
        made = points.add("manual", name=name or None)
        self._host.writer.barrier().result()
        return made

    def checkpoints(self) -> pd.DataFrame:
        """Return the moments of the run that were marked, in order."""
        return self._frame("checkpoints")

    def state_at(self, checkpoint: str) -> State:
        """Return the run as it stood at a checkpoint: plan, statuses, attempts, gates, files and replies.

        Raises
        ------
        RunNotFound
            There is no such checkpoint.
        StoreError
            The journal is gone, or was written by a newer version.
        """
        from cmbagent_nb.store.journal import FILE_NAME
        from cmbagent_nb.workflow.checkpoints import find_checkpoint, state_at

        position = find_checkpoint(self._host.db, self.id, checkpoint)
        return state_at(self.work_dir / FILE_NAME, position, self.id)

    def prune_checkpoints(self, keep: int = 10) -> int:
        """Drop all but the newest ``keep`` checkpoints that have no name; returns how many were dropped."""
        from cmbagent_nb.workflow.checkpoints import prune

        return prune(self._host.writer, self.id, keep)

    # ---- the record

    def events(self) -> pd.DataFrame:
        """Return everything that happened, in order."""
        return self._frame("events")

    def nodes(self) -> pd.DataFrame:
        """Return the nodes of the graph, with what each knows of itself."""
        return self._frame("nodes")

    def steps(self) -> pd.DataFrame:
        """Return the steps of the plan."""
        return self._frame("steps")

    def messages(self) -> pd.DataFrame:
        """Return what was said, with reasoning and code where there is any."""
        return self._frame("messages")

    def files(self) -> pd.DataFrame:
        """Return the files that the run made, in all versions."""
        return self._frame("files")

    def costs(self) -> pd.DataFrame:
        """Return tokens and costs, a row for each model call; a cost that is not known is missing."""
        return self._frame("costs")

    def history(self) -> pd.DataFrame:
        """Return the changes of status of the run, its steps and its nodes."""
        return self._frame("history")

    def gates(self) -> pd.DataFrame:
        """Return the gates and how they were answered."""
        return self._frame("decisions")

    def iter_events(
        self,
        page: int = 1000,
        *,
        frames: bool = False,
        after: int | None = None,
        node: str | None = None,
        agent: str | None = None,
        type: str | None = None,
    ) -> Iterator[Any]:
        """Go through the events in order, in memory that does not grow: dicts, or with ``frames`` a frame a page.

        ``after`` begins behind the event with this ``execution_order``.
        """
        # No id is greater than this: all that has the same place in the order comes before it.
        start = () if after is None else (after, "~")
        wanted = {"node_id": node, "agent_name": agent, "event_type": type}
        return self._pages("execution_events", frames, page, start, wanted)

    def iter_messages(
        self,
        page: int = 1000,
        *,
        frames: bool = False,
        after: int | None = None,
        node: str | None = None,
        agent: str | None = None,
    ) -> Iterator[Any]:
        """Go through what was said in order, in memory that does not grow: dicts, or with ``frames`` a frame a page.

        ``after`` begins behind the message with this ``id``; ``agent`` is the one who spoke.
        """
        start = () if after is None else (after,)
        return self._pages("messages", frames, page, start, {"node_id": node, "sender": agent})

    def _pages(
        self, table: str, as_frames: bool, size: int, after: tuple[Any, ...], wanted: dict[str, str | None]
    ) -> Iterator[Any]:
        from cmbagent_nb.store import pages

        self._settle()
        function = pages.frames if as_frames else pages.rows
        return function(self._host.db, table, self.id, size=size, after=after, **wanted)

    def condensed(self, tokens: int = 4000, keep: int = 5) -> str:
        """Return what was said within so many tokens: the newest ``keep`` messages as they are, of the rest the facts.

        No model is run_options. Numbers with their names, files and decisions come first.
        """
        from cmbagent_nb.workflow.condense import Item, condense

        def item(row: dict[str, Any]) -> Item:
            place = f", {row['node_id']}" if row["node_id"] else ""
            return Item(f"{row['sender']} to {row['recipient']}{place}", row["content"] or "")

        return condense(map(item, self.iter_messages()), budget=tokens, keep=keep).text

    def _settle(self) -> None:
        if not Runtime.get().inside():
            self._host.writer.caught_up()

    def _frame(self, name: str) -> pd.DataFrame:
        from cmbagent_nb.store import frames

        self._settle()
        return getattr(frames, name)(self._host.db, run_id=self.id)  # type: ignore[no-any-return]

    def lineage(self, path: str) -> Lineage:
        """Return how a file came to be: file ← code ← agent ← model call ← step ← task.

        Raises
        ------
        RunNotFound
            The run has no such file.
        """
        from cmbagent_nb.store.lineage import lineage

        links = lineage(self._host.db, self.id, path)
        if not links:
            raise RunNotFound(f"run {self.name} has no file {path!r}", "List its files with run.files().", path=path)
        return Lineage(path, links)

    def extract_skill(
        self, name: str | None = None, steps: str | Sequence[int | str] | None = None, **options: Any
    ) -> Skill:
        """Make a skill of the run, or of some of its steps (``"1"``, ``"4-7"``, ``[1, 3]``), and verify it.

        A name that a skill of another origin has is refused without ``version_of``.

        Parameters
        ----------
        options
            ``version_of`` (the skill of which it is the next version), ``tags``,
            ``description``, ``public``, ``on_progress``, ``timeout`` (seconds), ``liveness_s``;
            see :func:`cmbagent_nb.skills.extracting.extract.extract`.
        """
        from cmbagent_nb.skills.api import SkillLibrary, seconds
        from cmbagent_nb.skills.extracting.extract import extract
        from cmbagent_nb.skills.handle import Skill

        host = self._host
        made = extract(host.db, host.writer, host.home, self.id, name=name, steps=steps, **seconds(options))
        return Skill(made, SkillLibrary(self._core()))


def open_run(host: WorkspaceHandle, reference: str) -> Run:
    """Return a run by its name, its id, or a unique beginning or end of its id."""
    from cmbagent_nb.store.lookup import find_run

    run_id = str(find_run(host.db, reference)["id"])
    return Run(host, run_id, live=host.live.get(run_id))


def resume_run(core: WorkspaceCore, run: Run) -> LiveRun:
    """Resume an interrupted or failed run in this process; see :meth:`Run.resume`."""
    from cmbagent_nb.skills.extracting.after import make_after
    from cmbagent_nb.skills.matching.offering import skill_selector_of
    from cmbagent_nb.skills.running.start_run import step_source_of
    from cmbagent_nb.store.archive import unarchive_run
    from cmbagent_nb.store.archived import archived
    from cmbagent_nb.workflow.resume import resume

    host = core.host
    if run.status in ("failed", "interrupted") and archived(host.db, run.id) is not None:
        unarchive_run(host.db, host.writer, run.id)  # resuming writes to its rows
    return resume(
        host,
        run.id,
        core.settings,
        core.agents(),
        then_of=lambda wanted: make_after(host.db, host.writer, core.home, wanted),
        step_source_of=lambda id, kept, model: step_source_of(host, core.agents(), id, kept, model),
        skill_selector_of=lambda kept, model: skill_selector_of(host, core.settings, core.agents(), model, kept),
    )
