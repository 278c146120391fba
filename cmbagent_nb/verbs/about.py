"""The verbs about what there is: agents, models, settings, the installation, the demonstration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output, grid

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import AgentSpec
    from cmbagent_nb.workflow.repair import Repaired

_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*(?=@)")


@verb("agents", group="the rest", aliases={"list-agents": ("agents",), "agents list": ("agents",)})
def agents(call: Call) -> Output:
    """List the agents that a run can use."""
    found = [_agent(spec) for spec in call.ws.agents()]
    return Output(found, lambda: grid(found, ["name", "role", "plannable", "model", "tools", "description"], "None."))


@verb(
    "agents show", arg("name", metavar="AGENT", help="the name of an agent"), group="the rest", aliases=("show-agent",)
)
def show_agent(call: Call) -> Output:
    """Show an agent with its instructions."""
    spec = call.ws.agents()[call.options.name]
    data = {**_agent(spec), "instructions": spec.instructions}
    shown = {key: value for key, value in data.items() if key != "instructions" and value not in (None, "", [])}
    lines = [f"{key:12}{', '.join(value) if isinstance(value, list) else value}" for key, value in shown.items()]
    return Output(data, "\n".join([*lines, "", spec.instructions.rstrip()]))


def _agent(spec: AgentSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "role": spec.role,
        "description": spec.description,
        "tools": list(spec.tools),
        "model": spec.model,
        "reply": spec.reply,
        "plannable": spec.plannable,
        "source": spec.source,
    }


@verb("models", group="the rest")
def models(call: Call) -> Output:
    """List the providers of models, which of them can be used here, and the playbooks."""
    from cmbagent_nb.doctor import chosen_model, providers
    from cmbagent_nb.llm.playbook import playbooks

    settings = call.ws.settings
    chosen, kinds = chosen_model(settings), providers(settings)
    books = [
        {"name": f"playbook:{item.name}", "title": item.title, "mode": item.mode, "task": item.task, "note": item.note}
        for item in playbooks()
    ]

    def text() -> str:
        takes = chosen["model"] or "no model"
        return "\n".join(
            [
                f"{settings.model} takes {takes}: {chosen['reason']}",
                "",
                grid(kinds, ["provider", "usable", "key", "key_set", "installed", "default", "how"], ""),
                "",
                "Playbooks: recorded replies, each for its own task only; no model is called.",
                *(f"  {item['name']}  {item['title']} ({item['mode']})" for item in books),
            ]
        )

    return Output({"setting": settings.model, **chosen, "providers": kinds, "playbooks": books}, text)


@verb("config", arg("name", nargs="?", metavar="NAME", help="only this setting"), group="the rest")
def config(call: Call) -> Output:
    """Show the settings, each with where it comes from.

    A setting is set by a variable CMBAGENT_NAME, else in the workspace's config.toml, else it is the default.
    """
    from cmbagent_nb.errors import SettingsError
    from cmbagent_nb.settings import HELP, NAMES

    ws, name = call.ws, call.options.name
    if name is not None and name not in NAMES:
        raise SettingsError(f"there is no setting {name!r}", f"The settings are {', '.join(NAMES)}.", name=name)
    settings = ws.settings
    found = [
        {
            "name": item,
            "value": without_password(getattr(settings, item)),
            "source": settings.sources.get(item, "default"),
            "help": HELP[item],
        }
        for item in NAMES
        if name in (None, item)
    ]
    head = f"The workspace is {ws.home}; its settings are read from {ws.home / 'config.toml'}.\n\n"
    return Output(found, lambda: head + grid(found, ["name", "value", "source", "help"], ""))


def without_password(value: Any) -> Any:
    """Hide the password in a URL.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return _PASSWORD.sub(r"\1:***", value) if isinstance(value, str) else value


@verb(
    "doctor",
    arg(
        "--repair",
        action="store_true",
        help="mend the database from the journals, and journals from the database; end code of ended runs",
    ),
    group="the rest",
    needs_workspace=False,
)
def doctor(call: Call) -> Output:
    """Check what is installed, which model would be used and why, where the workspace is, and the panel."""
    from cmbagent_nb.doctor import examine
    from cmbagent_nb.settings import default_home

    home = default_home() if call.given is None else call.given.home
    repaired: Repaired | None = None
    ended: dict[str, int] = {}
    if call.options.repair:
        from cmbagent_nb.admin import mend_workspace
        from cmbagent_nb.workflow.leftovers import end_all_leftovers

        repaired = mend_workspace(home)
        ended = end_all_leftovers(home)
    report = examine(home)

    def text() -> str:
        if repaired is None:
            return str(report)
        runs = ", ".join(repaired.names) if repaired.names else "none was missing"
        processes = ", ".join(f"{name} ({count})" for name, count in ended.items())
        also = f" Processes of ended runs that were ended: {processes}." if processes else ""
        return f"{repaired}\nRuns taken from their journals: {runs}.{also}\n\n{report}"

    data = report.as_dict()
    if repaired is not None:
        data |= {"repaired": repaired.names, "repair": repaired.as_dict(), "ended": ended}
    return Output(data, text, exit_status=0 if report.healthy else 1)


@verb(
    "demo",
    arg("--dir", default="cmbagent_demo", metavar="DIR", help="the folder to work in (cmbagent_demo)"),
    group="the rest",
    needs_workspace=False,
)
def demo(call: Call) -> Output:
    """Run the quickstart on real data with recorded replies: no key and no network are needed."""
    import contextlib
    import io

    from cmbagent_nb.demo import main

    said = io.StringIO()
    # Without --json the demonstration speaks for itself, while it goes on.
    with contextlib.redirect_stdout(said) if call.options.json else contextlib.nullcontext():
        status = main(call.options.dir)
    return Output({"status": "completed" if status == 0 else "failed", "text": said.getvalue()}, exit_status=status)
