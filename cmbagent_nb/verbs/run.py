"""``run``, and the verbs that show runs: ``runs``, ``show``, ``status``."""

from __future__ import annotations

import argparse
import difflib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import InputError, UsageError
from cmbagent_nb.settings import user_path
from cmbagent_nb.store.waiting import waiting_text
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import RUN, amount, arg, count, moment, verb
from cmbagent_nb.verbs.output import Output, grid, plain, rows

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.store.snapshot import Snapshot
    from cmbagent_nb.workspace import Workspace

#: Seconds that a run which was interrupted by Ctrl-C has for its end.
PATIENCE = 20.0

#: What a run can be given, from a line as from the head of a cell.
RUN_OPTIONS = (
    arg("--mode", default="one_shot", metavar="MODE", help="one_shot (the default), plan or deep"),
    arg("--model", metavar="M", help="provider:name, playbook:NAME or auto"),
    arg("--approve", metavar="GATES", help="gates that open, such as plan,error, or a preset such as copilot"),
    arg("--in", dest="inputs", metavar="X", nargs="+", action="extend", default=[],
        help="what the run may read: files, and in a notebook variables; NAME=FILE gives a file a name"),
    arg("--name", metavar="N", help="a name for the run"),
    arg("--work-dir", metavar="DIR", help="the folder of the run"),
    arg("--max-cost", type=amount, metavar="USD", help="stop before a model call that would cost more in all"),
    arg("--max-attempts", type=count, metavar="N", help="attempts at a step before it fails"),
    arg("--agent", metavar="A", help="the agent of a one_shot (engineer)"),
    arg("--session", metavar="S", help="the session that the run belongs to"),
    arg("--skill", metavar="SKILL", help="a skill that does the task; auto to look for one; off for none"),
    arg("--auto-match", action="store_true", help="look for a skill that fits, and ask whether to use it"),
    arg("--skill-tags", default="", metavar="A,B", help="look only among skills that have all these tags"),
    arg("--set", dest="parameters", metavar="P=V", nargs="+", action="extend", default=[],
        help="values for the skill's parameters, besides those that the task names"),
    arg("--guided", action="store_true", help="let an agent fit the named skill's code to the task"),
    arg("--strict", action="store_true", help="fail where the named skill deviates from what has been seen"),
    arg("--create-skill", action="store_true", help="make a skill of the run when it has succeeded"),
    arg("--skill-name", metavar="N", help="the name of the skill that is made"),
    arg("--out", default="run", metavar="VAR", front="magic", help="the variable that the run is bound to (run)"),
    arg("--wait", action="store_true", help="wait for the end of the run; the command line always does"),
)  # fmt: skip


@verb(
    "run",
    arg("task", nargs="*", metavar="TASK", help="what is to be done, in words"),
    *RUN_OPTIONS,
    group="runs",
    aliases={
        "one-shot": ("run", "--mode", "one_shot"),
        "one_shot": ("run", "--mode", "one_shot"),
        "plan": ("run", "--mode", "plan"),
        "planning-and-control": ("run", "--mode", "plan"),
        "planning_and_control": ("run", "--mode", "plan"),
        "deep": ("run", "--mode", "deep"),
        "deep-research": ("run", "--mode", "deep"),
        "deep_research": ("run", "--mode", "deep"),
    },
)
def run(call: Call) -> Output:
    """Start a run of a task.

    Gates that --approve opens are answered from another terminal (cmbagent approve), a notebook or the
    panel, or by CMBAGENT_GATES=approve|reject|default. Ctrl-C cancels the run.
    """
    options = call.options
    task = _task(call, options)
    asked = {
        "model": options.model,
        "approve": options.approve,
        "name": options.name,
        "work_dir": options.work_dir,
        "agent": options.agent,
        "max_cost_usd": options.max_cost,
        "max_attempts": options.max_attempts,
    }
    asked |= _skill_options(call, options)
    inputs = inputs_of(call, options.inputs)
    out = getattr(options, "out", "")
    if out and not out.isidentifier():
        raise UsageError(f"--out needs the name of a variable, not {out!r}", "For example: --out run2.")
    ws = _in_session(call.ws, options.session)
    asked["inputs"] = {**_recorded_inputs(call, ws, task), **inputs} or None
    started = ws.start(task, mode=options.mode, **{key: value for key, value in asked.items() if value is not None})
    if call.front == "magic":
        said = f"Run {started.name} has started; it is bound to {out}."
        return Output(summary(ws, started), said, display=started, bind=out)
    return wait(call, ws, started)


def _skill_options(call: Call, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is asked for of skills, and refuse what makes no sense together."""
    from cmbagent_nb.verbs.skill_parts import values, words

    named = bool(options.skill) and options.skill.lower() not in ("auto", "off")
    for option, given in (("--guided", options.guided), ("--strict", options.strict)):
        if given and not named:
            raise UsageError(f"{option} is for a skill that is named", "Name it: --skill NAME.")
    if named and options.create_skill:
        raise UsageError("a skill is run and one is to be made", "Leave out --skill or --create-skill.")
    if options.skill_name and not options.create_skill:
        raise UsageError("--skill-name is given, and no skill is asked for", "Add --create-skill.")
    asked = {
        "skill": options.skill,
        "auto_match": options.auto_match or None,
        "required_tags": words(options.skill_tags) or None,
        "skill_parameters": values(call, options.parameters) or None,
        "guided": options.guided or None,
        "strict_mode": options.strict or None,
        "create_skill": options.create_skill or None,
        "skill_name": options.skill_name,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _task(call: Call, options: argparse.Namespace) -> str:
    words = list(options.task)
    given = options.inputs
    if not words and len(given) > 1 and " " in given[-1] and not Path(given[-1]).exists():
        words = [given.pop()]  # `run --in a.csv "the task"`: the task, not one more input
    task = " ".join(words).strip()
    if not task:
        raise UsageError("there is no task", f'Say what is to be done: {call.prog} run "TASK".')
    return task


def _in_session(ws: Workspace, name: str | None) -> Workspace:
    if not name or name == ws.settings.session:
        return ws
    from cmbagent_nb.workspace import Workspace

    return Workspace(ws.home, database_url=ws.settings.database_url, session=name)


def inputs_of(call: Call, words: list[str]) -> dict[str, Any]:
    """Return what ``--in`` names: variables of the notebook first, then files."""
    found: dict[str, Any] = {}
    variables = {} if call.namespace is None else call.namespace
    for word in words:
        if call.namespace is not None and "," in word and not Path(word).exists():
            found |= inputs_of(call, [part for part in word.split(",") if part])
            continue
        name, equals, path = word.partition("=")
        if word in variables:
            name, value = word, variables[word]
        elif equals and name.isidentifier() and user_path(path).is_file():
            value = user_path(path)
        elif user_path(word).is_file():
            value = user_path(word)
            name = _identifier(value)
        else:
            raise _unknown_input(call, word, variables)
        if name in found:
            raise InputError(f"--in names {name!r} twice", "Give one of them another name: NAME=FILE.", name=name)
        found[name] = value
    return found


def _recorded_inputs(call: Call, ws: Workspace, task: str) -> dict[str, Any]:
    """Return the shipped data that a playbook's task is about, when a playbook is what answers."""
    from importlib import import_module

    from cmbagent_nb.llm.playbook import Playbook, find_for_task

    if find_for_task(task) is None:
        return {}
    model = ws._core.resolve_model(call.options.model or ws.settings.model, task)
    found: dict[str, Any] = {}
    for name, place in Playbook.load(model.name).inputs.items() if model.is_playbook else ():
        module, _, function = place.partition(":")
        if module == "cmbagent_nb.datasets":
            found[name] = getattr(import_module(module), function)()
    return found


def _identifier(path: Path) -> str:
    """Return a name for a file that can be a variable's.

    >>> _identifier(Path("my data-2.csv.gz"))
    'my_data_2'
    """
    stem = path.name.partition(".")[0] or path.name.strip(".")
    name = "".join(letter if letter.isalnum() else "_" for letter in stem)
    return name if name.isidentifier() else f"_{name}"


def _unknown_input(call: Call, word: str, variables: Any) -> InputError:
    folder = user_path(word).parent
    known = [str(name) for name in variables if not str(name).startswith("_")]
    try:
        known += [str(Path(word).parent / item.name) for item in folder.iterdir() if item.is_file()]
    except OSError:
        known += []  # a folder that is not there has nothing that could be meant
    close = difflib.get_close_matches(word, known, 1)
    what = "no such file" if call.namespace is None else "no such variable or file"
    hint = f"Did you mean {close[0]}?" if close else "Check its name, and the folder that you are in."
    return InputError(f"--in names {word!r} and there is {what}", hint, name=word)


def wait(call: Call, ws: Workspace, started: Run) -> Output:
    """Wait for the end of a run and say meanwhile what happens; Ctrl-C cancels the run."""
    from cmbagent_nb.verbs.follow import follow

    interrupted = False
    try:
        follow(ws, started, call.say, quiet=call.options.json, prog=call.prog)
    except KeyboardInterrupt:
        interrupted = True
        call.say(f"Cancelling {started.name} …")
        started.cancel(call.by)
        started.wait(PATIENCE)
    made = summary(ws, started)
    status = 130 if interrupted else 0 if made["status"] == "completed" else 1
    return Output(made, lambda: ended(made), display=started, exit_status=status)


def summary(ws: Workspace, found: Run) -> dict[str, Any]:
    """Return a run in short: what ``run --json`` and ``status --json`` give."""
    from cmbagent_nb.store.snapshot import read_snapshot

    return brief(read_snapshot(ws._core.db, found.id, events=0, messages=0, files=100_000))


def brief(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot in short."""
    row = snapshot.run
    result = row["result"] if isinstance(row["result"], dict) else {}
    return {
        "run_id": row["id"],
        "name": row["name"],
        "status": row["status"],
        "mode": row["mode"],
        "model": row["model"],
        "model_source": row["model_source"],
        "work_dir": row["work_dir"],
        "result": result.get("text") or None,
        "cost_usd": row["cost_usd"],
        "model_calls": row["calls"],
        "tokens": row["tokens"],
        "duration_s": round(row["elapsed_s"], 3),
        "files": sorted(str(file["file_path"]) for file in snapshot.files),
        "error": row["error"],
        "conflicts": row["conflicts"],
        "waiting": waiting_text(row["waiting"], time.time()) or None,
        "skill": result.get("skill"),
    }


def ended(made: dict[str, Any]) -> str:
    """Write a run in short, as the command line shows it at its end."""
    parts = [made["result"].rstrip(), ""] if made["result"] else []
    parts.append(headline(made))
    if made["error"]:
        parts.append(f"  {made['error']}")
    parts += conflicts(made)
    parts.append(f"  work dir  {made['work_dir']}")
    for path in made["files"]:
        if path.startswith(("data/", "plots/")) or "/" not in path:
            parts.append(f"            {path}")
    if (skill := made["skill"]) is not None:
        parts.append(
            f"  skill     {skill['name']} v{skill['version']}: {skill['summary']}"
            if skill["skill_id"]
            else f"  no skill  {skill['error']}"
        )
    return "\n".join(parts)


def conflicts(made: dict[str, Any]) -> list[str]:
    """Write a line for each file that steps wrote which do not depend on each other."""
    return [f"  conflict  {line}" for line in made["conflicts"]]


def headline(made: dict[str, Any]) -> str:
    """Write the status line of a run."""
    from cmbagent_nb.render.status import look
    from cmbagent_nb.render.text import count, plural, seconds, usd

    shown = look(made["status"])
    facts = [f"{made['name']}: {shown.label}", seconds(made["duration_s"])]
    if made["model_source"] == "playbook":
        facts.append("recorded replies, no model was called")
    elif made["model_calls"]:
        facts += [
            plural(made["model_calls"], "call"),
            f"{count(made['tokens'])} tokens",
            f"cost {usd(made['cost_usd'])}",
        ]
    return f"{shown.glyph} {' · '.join(facts)}"


@verb(
    "runs",
    arg("--status", metavar="S", help="only runs with this status, such as completed or interrupted"),
    arg("--mode", metavar="MODE", help="only runs of this mode: one_shot, plan or deep"),
    arg("--since", type=moment, metavar="WHEN", help="only runs that began since: 30m, 2h, 7d or a date"),
    arg("--session", metavar="S", help="only runs of this session"),
    arg("--limit", type=count, metavar="N", help="at most so many, the newest"),
    group="runs",
    aliases=("list-runs",),
)
def runs(call: Call) -> Output:
    """List the runs, the newest first."""
    from cmbagent_nb.store import listings
    from cmbagent_nb.workflow.run_options import MODES
    from cmbagent_nb.workflow.states import ACTIVE, ENDED

    options = call.options
    _among("--status", options.status, [*ACTIVE, *ENDED])
    _among("--mode", options.mode, list(MODES))
    call.refresh()
    mode = None if options.mode is None else MODES[options.mode]
    found = listings.runs(call.ws._core.db, options.session, status=options.status, mode=mode)
    now = time.time()
    beats = zip(found.columns["status"], found.columns["last_heartbeat_at"], strict=True)
    silent = [float(round(now - at)) if status in ACTIVE and at is not None else None for status, at in beats]
    active = any(status in ACTIVE for status in found.columns["status"])
    found = found.adding(silent_s=silent)
    if options.since is not None:
        began = found.columns["created_at"]
        found = found.taking([place for place, at in enumerate(began) if at >= options.since])
    if options.limit is not None:
        found = found.head(options.limit)
    columns = ["id", "name", "status", "mode", "model", "created_at", "duration_s", "model_calls", "tokens", "cost_usd"]
    columns += ["silent_s"] if active else []
    return Output(found, lambda: grid(rows(found), columns, "There are no such runs."), display=found)


def _among(option: str, value: str | None, known: list[str]) -> None:
    if value is not None and value not in known:
        close = difflib.get_close_matches(value, known, 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(f"{option} cannot be {value!r}", f"{meant}It is one of {', '.join(known)}.", value=value)


@verb("show", RUN, group="runs")
def show(call: Call) -> Output:
    """Show a run: its plan, its graph and what came of it."""
    from cmbagent_nb.verbs.text import run_text

    found = call.run()
    snapshot = found.snapshot()
    made = brief(snapshot)
    data = {
        **made,
        "task": found.task,
        "plan": snapshot.plan,
        "nodes": snapshot.nodes,
        "edges": [list(edge) for edge in snapshot.edges],
        "gates": snapshot.gates,
        "costs": snapshot.costs,
    }
    return Output(data, lambda: run_text(snapshot, made, call.prog), display=found)


@verb("status", RUN, group="runs")
def status(call: Call) -> Output:
    """Say in a line how a run stands."""
    made = plain(summary(call.ws, call.run()))
    return Output(
        made,
        lambda: "\n".join(
            [headline(made), *(f"  {made[name]}" for name in ("error", "waiting") if made[name]), *conflicts(made)]
        ),
    )
