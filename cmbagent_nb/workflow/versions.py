"""Decide which version of a file counts where several steps publish one path.

Two steps of which one depends on the other may write the same path: the later version replaces the earlier one. Steps
that do not depend on each other are *in conflict*: the version of the step that comes last in the plan's order counts,
whichever ended first, and the conflict is reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cmbagent_nb.workflow.plan import Plan


@dataclass(frozen=True)
class Version:
    """A file as a step published it."""

    file_id: str
    path: str  #: where the run's work dir has it, if no other version counts there
    source: str  #: where the step made it, relative to the work dir; it stays there
    sha256: str
    node_id: str
    attempt: int


@dataclass(frozen=True)
class Conflict:
    """A path that steps published which do not depend on each other."""

    path: str
    used: Version
    others: Sequence[Version]

    def __str__(self) -> str:
        steps = " and ".join(step_name(item.node_id) for item in sorted([self.used, *self.others], key=_by_step))
        kept = "; ".join(f"that of {step_name(item.node_id)} is {item.source}" for item in self.others)
        return (
            f"{self.path}: written by {steps}, which do not depend on each other."
            f" The version of {step_name(self.used.node_id)}, the later in the plan, is used; {kept}."
        )


@dataclass(frozen=True)
class Given:
    """The versions of files that a step is given, by path, and the conflicts among them."""

    versions: Mapping[str, Version] = field(default_factory=dict)
    conflicts: Sequence[Conflict] = ()


class Order:
    """The order of a plan's steps, as far as versions of files need it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rank = {node_id: place for place, node_id in enumerate(plan.order())}
        self._before: dict[str, frozenset[str]] = {}

    def before(self, node_id: str) -> frozenset[str]:
        """Return the steps that a step depends on, directly or through others."""
        if node_id not in self._before:
            known = node_id in self._rank
            self._before[node_id] = frozenset(self._plan.before(node_id)) if known else frozenset()
        return self._before[node_id]

    def independent(self, one: str, other: str) -> bool:
        """Tell whether neither of two steps depends on the other."""
        return one != other and one not in self.before(other) and other not in self.before(one)

    def later(self, one: str, other: str) -> bool:
        """Tell whether a step comes after another in the order of the plan."""
        return self._rank.get(one, -1) > self._rank.get(other, -1)

    def last(self, node_ids: Iterable[str]) -> str:
        """Return the step that comes last in the order of the plan."""
        return max(node_ids, key=lambda name: self._rank.get(name, -1))

    def choose(self, path: str, found: Mapping[str, Version]) -> tuple[Version, Conflict | None]:
        """Return the version of a path that counts among those of several steps, and the conflict if there is one."""
        used = self.last(found)
        ends = [name for name in found if not any(name in self.before(other) for other in found)]
        others = tuple(sorted((found[name] for name in ends if name != used), key=_by_step))
        return found[used], Conflict(path, found[used], others) if others else None

    def given(
        self, published: Mapping[str, Mapping[str, Version]], node_ids: Iterable[str], preferred: Collection[str] = ()
    ) -> Given:
        """Return what a step is given of the files that ``node_ids`` published.

        Where one of the ``preferred`` steps published a path, the versions of all others do not count.
        """
        by_path: dict[str, dict[str, Version]] = {}
        for node_id in node_ids:
            for path, version in published.get(node_id, {}).items():
                by_path.setdefault(path, {})[node_id] = version
        versions, conflicts = {}, []
        for path, found in by_path.items():
            first = {name: version for name, version in found.items() if name in preferred}
            versions[path], conflict = self.choose(path, first or found)
            if conflict is not None:
                conflicts.append(conflict)
        return Given(versions, tuple(conflicts))


def step_name(node_id: str) -> str:
    """Return a step's name in a sentence.

    >>> step_name("step_2"), step_name("planning")
    ('step 2', 'planning')
    """
    number = node_id.removeprefix("step_")
    return f"step {number}" if number != node_id else node_id


def _by_step(version: Version) -> tuple[int, str]:
    return (len(version.node_id), version.node_id)
