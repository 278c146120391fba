"""The agents there are: the roster that comes with the package, the user's own, and registered objects.

An agent is a YAML file; a new file in the workspace's ``agents`` folder is enough for the planner to
use it. A file with the name of an agent of the roster takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SettingsError, UsageError
from cmbagent_nb.settings import user_path

if TYPE_CHECKING:
    from ag2 import Agent

ROSTER = Path(__file__).parent / "roster"
ROLES = ("primary", "helper", "validator")
KINDS = ("plan", "review", "code", "report", "verdict", "text")
TOOLS = ("search_files", "search_docs", "inspect_data", "list_packages")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class AgentSpec:
    """An agent as data."""

    name: str
    description: str  #: what the planner reads
    instructions: str = ""
    title: str = ""
    role: str = "primary"  #: primary, helper or validator
    tools: tuple[str, ...] = ()  #: names of tools; ``agent:NAME`` makes another agent a tool
    model: str | None = None  #: provider:name; None takes the run's model
    reply: str = "text"  #: plan, review, code, report, verdict or text
    plannable: bool = True  #: whether the planner may give it steps
    source: str = ""  #: the file it was read from
    agent: Any = field(default=None, compare=False)  #: the ``ag2.Agent`` that the user registered
    registry: Registry | None = field(default=None, compare=False, repr=False)


class Registry:
    """The agents by name."""

    def __init__(self) -> None:
        self._agents: dict[str, AgentSpec] = {}

    @classmethod
    def load(cls, extra_dir: str | Path = "", home: Path | None = None) -> Registry:
        """Read the roster, then the workspace's ``agents`` folder, then ``extra_dir``.

        Raises
        ------
        SettingsError
            A file cannot be used, with its line; or ``extra_dir`` is not a folder.
        """
        registry = cls()
        folders = [ROSTER]
        if home is not None and (home / "agents").is_dir():
            folders.append(home / "agents")
        if str(extra_dir):
            extra = user_path(extra_dir)
            if not extra.is_dir():
                raise SettingsError(
                    f"the folder of agents {extra} does not exist", "Make it, or change the setting agents_dir."
                )
            folders.append(extra)
        for folder in folders:
            for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
                registry.register(read_agent(path))
        registry._check_tools()
        return registry

    def __getitem__(self, name: str) -> AgentSpec:
        try:
            return self._agents[name]
        except KeyError:
            raise UsageError(
                f"there is no agent {name!r}", f"The agents are {', '.join(self._agents)}.", name=name
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def __iter__(self) -> Iterator[AgentSpec]:
        return iter(self._agents.values())

    def names(self) -> list[str]:
        """Return the names of all agents."""
        return list(self._agents)

    def plannable(self) -> list[str]:
        """Return the names of the agents that the planner may give steps to."""
        return [spec.name for spec in self._agents.values() if spec.plannable]

    def roles(self) -> dict[str, str]:
        """Return the role of each agent by its name."""
        return {spec.name: spec.role for spec in self._agents.values()}

    def register(self, agent: AgentSpec | Agent, *, description: str = "", **options: Any) -> AgentSpec:
        """Add an agent, or put another in the place of one of the same name.

        Parameters
        ----------
        agent
            An :class:`AgentSpec`, or an ``ag2.Agent`` that you made yourself: its prompt, tools, middleware and
            model are kept, and its calls are recorded like those of any other.
        description
            What the planner is told about it; by default the first line of its prompt.
        options
            Other fields of :class:`AgentSpec`, such as ``reply="code"`` or ``plannable=False``.
        """
        if not isinstance(agent, AgentSpec):
            prompt = [part.strip() for part in getattr(agent, "system_prompt", ()) if part.strip()]
            first = prompt[0].splitlines()[0] if prompt else ""
            agent = AgentSpec(name=agent.name, title=agent.name, description=description or first, agent=agent)
        elif description:
            agent = replace(agent, description=description)
        agent = replace(agent, **options, registry=self)
        problem = _problem(agent)
        if problem:
            raise UsageError(
                f"the agent {agent.name!r} cannot be registered: {problem}", "Change it and register it again."
            )
        self._agents[agent.name] = agent
        return agent

    def changed(
        self, models: Mapping[str, str] | None = None, instructions: Mapping[str, str] | None = None
    ) -> Registry:
        """Return a registry for one run: with other models for some agents, and with instructions added to some.

        Raises
        ------
        UsageError
            There is no agent of one of the names.
        """
        models, instructions = models or {}, instructions or {}
        other = Registry()
        for name in [*models, *instructions]:
            self[name]
        for spec in self:
            added = instructions.get(spec.name, "").strip()
            changed = replace(
                spec,
                model=models.get(spec.name) or spec.model,
                instructions=f"{spec.instructions.rstrip()}\n\n{added}\n" if added else spec.instructions,
            )
            other.register(changed)
        return other

    def _check_tools(self) -> None:
        for spec in self:
            for tool in spec.tools:
                if tool.startswith("agent:") and tool.removeprefix("agent:") not in self._agents:
                    raise SettingsError(
                        f"{spec.source or spec.name} names the tool {tool!r}, but there is no such agent",
                        f"The agents are {', '.join(self._agents)}.",
                    )


def _problem(spec: AgentSpec) -> str | None:
    if not NAME.fullmatch(spec.name):
        return "its name must begin with a letter and have only letters, digits, '_' and '-'"
    if not spec.description:
        return "it has no description, by which the planner would know when to use it"
    if spec.role not in ROLES:
        return f"its role {spec.role!r} is not one of {', '.join(ROLES)}"
    if spec.reply not in KINDS:
        return f"its reply {spec.reply!r} is not one of {', '.join(KINDS)}"
    unknown = [tool for tool in spec.tools if tool not in TOOLS and not tool.startswith("agent:")]
    if unknown:
        return f"its tool {unknown[0]!r} is not one of {', '.join(TOOLS)} or agent:NAME"
    return None


_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "name": (str, "a text"),
    "title": (str, "a text"),
    "role": (str, "a text"),
    "description": (str, "a text"),
    "instructions": (str, "a text"),
    "tools": (list, "a list"),
    "model": ((str, type(None)), "a text"),
    "reply": (str, "a text"),
    "plannable": (bool, "true or false"),
}
_NEEDED = ("name", "description", "instructions")


def read_agent(path: Path) -> AgentSpec:
    """Read one agent from its YAML file.

    Raises
    ------
    SettingsError
        The file cannot be used; the error names the file and the line.
    """
    import yaml

    def refuse(line: int, what: str) -> SettingsError:
        return SettingsError(f"{path}, line {line}: {what}", "Mend or remove the file.", path=str(path), line=line)

    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise refuse(mark.line + 1 if mark else 1, error.problem or "this is not YAML") from error
    except RecursionError:
        raise refuse(1, "it is nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise refuse(1, str(error)) from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        raise refuse(1, "an agent is a mapping of names to values")
    lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
    for name, value in values.items():
        if name not in _TYPES:
            raise refuse(lines.get(name, 1), f"{name!r} is not one of {', '.join(_TYPES)}")
        kind, kind_text = _TYPES[name]
        if not isinstance(value, kind):
            raise refuse(lines.get(name, 1), f"{name} is {value!r}, which is not {kind_text}")
    missing = [name for name in _NEEDED if not str(values.get(name) or "").strip()]
    if missing:
        raise refuse(lines.get(missing[0], 1), f"the agent has no {missing[0]}")
    values["tools"] = tuple(str(tool) for tool in values.get("tools", ()))
    values["description"] = " ".join(values["description"].split())
    spec = AgentSpec(**{"title": values["name"], **values}, source=str(path))
    problem = _problem(spec)
    if problem:
        word = next((name for name in ("name", "role", "reply", "tools") if f"its {name[:4]}" in problem), "name")
        raise refuse(lines.get(word, 1), problem)
    return spec
