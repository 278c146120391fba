"""Composing skills: several become one, which is a notebook skill like any other, verified like any other.

| pattern | |
|---|---|
| ``sequential`` | inputs of a later skill are outputs of earlier ones, found by name and by what is in them |
| ``parallel`` | skills that do not depend on one another, in one notebook, with one form |
| ``conditional`` | a second skill runs where a condition on the first one's numbers or files holds, a third otherwise |

Each component works in a folder of its own, named after it, with a fresh kernel, just as it does alone: so
nothing of one can clash with another, and what the composition makes can be held against what the components
make. Parameters keep their names; where two have one name, each is written with its component's name before it.

Everything that does not fit is told, all of it, before anything is made.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cmbagent_nb.errors import SkillError, SkillUntrusted
from cmbagent_nb.skills import library, naming
from cmbagent_nb.skills.composing.when import Condition, parse
from cmbagent_nb.skills.model import Parameter

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.running.engine import OnProgress

PATTERNS = ("sequential", "parallel", "conditional")


@dataclass(frozen=True)
class Link:
    """An input of a component that is an output of an earlier one."""

    source: str
    path: str
    target: str
    input: str
    #: The parameter that names the input; empty where the code reads the path itself.
    parameter: str = ""
    how: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the link as it is kept."""
        return {
            "from": f"{self.source}:{self.path}",
            "to": f"{self.target}:{self.input}",
            "parameter": self.parameter,
            "how": self.how,
        }


@dataclass
class Component:
    """A skill as a part: its folder in the composition, and its parameters by their names there."""

    skill: SkillRecord
    folder: str
    links: list[Link] = field(default_factory=list)
    #: Own name → the composition's parameter.
    parameters: dict[str, Parameter] = field(default_factory=dict)
    #: Own node → node of the composition.
    nodes: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """The component's name as the beginning of a Python name."""
        return re.sub(r"\W", "_", self.folder)

    def linked(self, parameter: str) -> Link | None:
        """Return the link that feeds a parameter."""
        return next((item for item in self.links if item.parameter == parameter), None)


@dataclass
class Composition:
    """Everything that a composition is made of, before anything is made."""

    name: str
    pattern: str
    components: list[Component]
    parameters: list[Parameter]
    condition: Condition | None = None

    @property
    def base(self) -> str:
        """The name that the composition's folder has in the notebook."""
        return "folder_of_" + re.sub(r"\W", "_", self.name)

    def taken(self, component: Component) -> str:
        """Return ``then`` or ``otherwise`` for the component that a condition decides about, else nothing."""
        place = self.components.index(component)
        return {1: "then", 2: "otherwise"}.get(place, "") if self.condition is not None else ""


def plan(
    name: str,
    skills: Iterable[SkillRecord],
    pattern: str = "sequential",
    *,
    when: str | None = None,
    connect: Mapping[str, str] | None = None,
    share: Iterable[str] = (),
) -> Composition:
    """Return how skills go together, or say all that does not fit; nothing is made.

    Parameters
    ----------
    when
        For ``conditional``: ``chi2 < 1.5`` or ``"data/fit.csv" in outputs``, of the first skill.
    connect
        Which input is which output, where names and schemas do not tell: ``{"second.table_file": "first:data/a.csv"}``.
    share
        Parameters of one name that are one parameter.

    Raises
    ------
    SkillError
        They do not fit together; ``problems`` has each reason.
    """
    from cmbagent_nb.skills.composing.fitting import links

    naming.check_name(name)
    found = list(skills)
    problems = _problems(found, pattern, when)
    if problems:
        raise _unfit(name, problems)
    components = [Component(skill, folder) for skill, folder in zip(found, _folders(found), strict=True)]
    condition = parse(when) if when else None
    problems += links(components, pattern, dict(connect or {}))
    if condition is not None:
        problems += _unknown_files(condition, components[0])
    if problems:
        raise _unfit(name, problems)
    parameters = _parameters(components, set(share))
    return Composition(name, pattern, components, parameters, condition)


def compose(
    name: str | None,
    skills: Iterable[SkillRecord],
    pattern: str = "sequential",
    *,
    when: str | None = None,
    connect: Mapping[str, str] | None = None,
    share: Iterable[str] = (),
    version_of: str | None = None,
    description: str = "",
    tags: Iterable[str] = (),
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
) -> SkillRecord:
    """Make one skill of several, run it twice, and hold it against what the components make alone.

    It is active when all is equal, else a draft with the reason. ``version_of`` is the skill of which it is the next
    version; else a name that another skill has is refused. See :func:`plan` for the other parameters.
    """
    from cmbagent_nb.skills.composing.composed import build, row_of
    from cmbagent_nb.skills.composing.composed_verify import verify_composition
    from cmbagent_nb.skills.notebook import notebook_text
    from cmbagent_nb.skills.versions import artifacts_of

    found = list(skills)
    if problems := _problems(found, pattern, when):
        raise _unfit(name or version_of or "the skill", problems)
    same = naming.of_parts([item.name for item in found])
    claim = naming.claim(found[0].db, name, version_of=version_of, same_origin=same)
    name = claim.name
    planned = plan(name, found, pattern, when=when, connect=connect, share=share)
    home, first = planned.components[0].skill.home, planned.components[0].skill
    making = home / "skills" / ".making"
    making.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=making))
    work = Path(tempfile.mkdtemp(prefix="compose-", dir=making))
    try:
        notebook = build(planned, description)
        for component in planned.components:
            _copy_assets(component, folder / library.ASSETS)
        report = verify_composition(planned, notebook, folder / library.ASSETS, work, on_progress, timeout_s)
        (folder / library.NOTEBOOK).write_text(notebook_text(notebook), encoding="utf-8")
        library.write_verification(folder, report)
        row = row_of(planned, notebook, report, description, sorted(set(tags)))
        schemas = {**row["input_schema"], **row["output_schema"]}
        made = row["output_schema"]
        row["artifacts"] = artifacts_of(notebook, planned.parameters, schemas, folder / library.ASSETS, made)
        return library.add(first.db, first.writer, home, folder, row, claim=claim)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


def _unfit(name: str, problems: list[str]) -> SkillError:
    return SkillError(
        f"{name} cannot be composed: {'; '.join(problems)}",
        "Choose other skills, or say what goes where with connect=.",
        problems=problems,
    )


def _problems(skills: list[SkillRecord], pattern: str, when: str | None) -> list[str]:
    from cmbagent_nb.skills.sharing.trust import require_trust

    problems = []
    if pattern not in PATTERNS:
        problems.append(f"{pattern!r} is no pattern; there are {', '.join(PATTERNS)}")
    if len(skills) < 2:
        problems.append("it takes two skills or more")
    if pattern == "conditional":
        if not when:
            problems.append('conditional needs a condition, as in when="chi2 < 1.5"')
        if len(skills) > 3:
            problems.append("conditional takes two skills, or three: the first, the one where it holds, the other one")
    elif when:
        problems.append(f"a condition has no meaning in a {pattern} composition")
    for skill in skills:
        try:
            require_trust(skill)
        except SkillUntrusted:
            changed = ": its files were changed" if skill.trusted else ""
            problems.append(f"{skill.name} v{skill.version} is not trusted{changed}")
            continue
        if not skill.verified or skill.status == "draft":
            problems.append(f"{skill.name} v{skill.version} is not verified")
    return problems


def _unknown_files(condition: Condition, first: Component) -> list[str]:
    made = set(first.skill.output_schema)
    return [
        f"the condition names {path}, which {first.folder} does not make (it makes {', '.join(sorted(made))})"
        for path in condition.files
        if made and path not in made
    ]


def _folders(skills: list[SkillRecord]) -> list[str]:
    """Return a folder for each skill: its name, with a number where a skill comes twice."""
    found: list[str] = []
    for skill in skills:
        own = skill.name
        number = 2
        while own in found or own in ("assets", "input", "data", "plots", "codebase"):
            own = f"{skill.name}_{number}"
            number += 1
        found.append(own)
    return found


def _parameters(components: list[Component], share: set[str]) -> list[Parameter]:
    """Give each parameter that is not fed by another skill its name in the composition."""
    open_ones = [
        (component, item)
        for component in components
        for item in component.skill.parameters
        if component.linked(item.name) is None
    ]
    counts: dict[str, int] = {}
    for _, item in open_ones:
        counts[item.name.casefold()] = counts.get(item.name.casefold(), 0) + 1
    made: dict[str, Parameter] = {}
    for component, item in open_ones:
        clash = counts[item.name.casefold()] > 1
        shared = clash and item.name in share and item.kind == "value"
        name = item.name if not clash or shared else f"{component.prefix}_{item.name}"
        number = 2
        while not shared and name in made:
            name = f"{component.prefix}_{item.name}_{number}"
            number += 1
        known = made.get(name)
        if known is not None and (known.type != item.type):
            raise _unfit(item.name, [f"{item.name} is of two types, so it cannot be shared"])
        if known is None:
            help_ = item.help if not clash or shared else f"{item.help or item.name} ({component.folder})"
            default = _placed(component, item) if item.kind == "input" else item.default
            made[name] = replace(item, name=name, default=default, help=help_, steps=())
        component.parameters[item.name] = made[name]
    return list(made.values())


def _placed(component: Component, item: Parameter) -> str:
    """Return an input's default as a path in the composition's folder."""
    own = str(item.default)
    schema = component.skill.input_schema
    if own not in schema:
        own = next((path for path in schema if PurePosixPath(path).name == own), own)
    return f"{component.folder}/{own}"


def _copy_assets(component: Component, assets: Path) -> None:
    target = assets / component.folder
    target.mkdir(parents=True, exist_ok=True)
    if component.skill.assets.is_dir():
        shutil.copytree(component.skill.assets, target, dirs_exist_ok=True)
