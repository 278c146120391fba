"""Publish the files of an attempt, and hand them to the steps that depend on it.

Every version stays in the folder of the attempt that made it, and a step is given the versions of the steps that it
depends on. In the run's work dir is the version of the step that comes last in the plan's order; where independent
steps write one path, that is a conflict, and it is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cmbagent_nb.execution.attempt_folder import destination, ignored, publish, put
from cmbagent_nb.execution.kinds import file_type, mime
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.workflow.disk_full import retry_while_disk_full
from cmbagent_nb.workflow.file_registry import MadeFile, places
from cmbagent_nb.workflow.step_context import MODE as CARRYING
from cmbagent_nb.workflow.versions import Given, Order, step_name

if TYPE_CHECKING:
    from cmbagent_nb.capture.file_scan import Entry
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.plan import Step
    from cmbagent_nb.workflow.prompts import Done
    from cmbagent_nb.workflow.versions import Conflict


@dataclass(frozen=True)
class Handed:
    """The files that an attempt starts with, besides the run's input."""

    #: Each path in the attempt's folder, with the place in the work dir that it is copied from.
    seeds: Mapping[str, str] = field(default_factory=dict)
    given: Given = field(default_factory=Given)

    def replaced(self, done: Iterable[Done]) -> dict[tuple[str, str], str]:
        """Return which step's version stands in the place of another's, by the other step and the path."""
        used = {path: version.node_id for path, version in self.given.versions.items()}
        return {
            (item.node_id, path): used[path]
            for item in done
            for path in item.files
            if used.get(path, item.node_id) != item.node_id
        }

    def row(self, path: str) -> str | None:
        """Return the id of the file's row that the attempt has at a path."""
        version = self.given.versions.get(PurePosixPath(path).as_posix())
        return version.file_id if version else None


async def hand(context: Context, step: Step, steps: Sequence[str]) -> Handed:
    """Choose the files that an attempt starts with: those that ``steps`` published."""
    assert context.plan is not None
    order = Order(context.plan)
    given = context.file_registry.given(
        steps, order, order.before(step.node_id) if context.options.mode == CARRYING else ()
    )
    seeds = dict.fromkeys(context.step_source.seeds() if context.step_source else ())
    found = {name: name for name in seeds} | await in_thread(places, context.work_dir, given.versions)
    return Handed(found, given)


async def publish_files(
    context: Context, node_id: str, attempt: int, folder: Path, entries: Sequence[Entry]
) -> list[MadeFile]:
    """Put the files of an attempt that succeeded into the work dir; ``context.publishing`` is held meanwhile."""
    assert context.plan is not None
    order, work_dir = Order(context.plan), context.work_dir
    paths = {path for entry in entries if (path := destination(entry.path)) is not None}
    beside = context.file_registry.outranked(node_id, paths, order)
    done = await retry_while_disk_full(context, publish, folder, work_dir, list(entries), beside)
    published = {item.path for item in done}
    for path, source in context.file_registry.withdraw(node_id, attempt, published, order):
        await retry_while_disk_full(context, _put_back, work_dir, path, source)
    return [MadeFile(item.path, item.size, item.sha256, item.mime, item.file_type, item.source) for item in done]


def left_files(context: Context, folder: Path, entries: Iterable[Entry]) -> list[MadeFile]:
    """Return the files that an attempt which failed left in its folder."""
    prefix = folder.relative_to(context.work_dir).as_posix()
    return [
        MadeFile(f"{prefix}/{item.path}", item.size, item.sha256, mime(item.path), file_type(item.path))
        for item in entries
        if not ignored(item.path)
    ]


def report_conflicts(context: Context, node_id: str, parent: str | None, scripts: Sequence[str] = ()) -> None:
    """Record that a node published paths which steps independent of it published as well.

    Scripts of the same name are marked among the run's files and not reported: no step reads another's by chance.
    """
    assert context.plan is not None
    found = context.file_registry.conflicts(node_id, Order(context.plan))
    _record(context, "file_conflict", [item for item in found if item.path not in scripts], parent)


def report_ambiguous(context: Context, step: Step, handed: Handed) -> None:
    """Record that a step depends on several steps which published one path."""
    found = [item for item in handed.given.conflicts if not item.path.startswith("codebase/")]
    _record(context, "ambiguous_input", found, None, f"{step_name(step.node_id).capitalize()} depends on both. ")


def links_of(context: Context, handed: Handed) -> dict[str, str]:
    """Return where a text links to for the files of an attempt whose path has another version in the work dir."""
    assert context.plan is not None
    order = Order(context.plan)
    return {
        path: version.source
        for path, version in handed.given.versions.items()
        if context.file_registry.standing(path, order) != version
    }


def _record(context: Context, subtype: str, found: Sequence[Conflict], parent: str | None, first: str = "") -> None:
    if not found:
        return
    told = [
        {
            "path": item.path,
            "used": item.used.node_id,
            "others": {version.node_id: version.source for version in item.others},
        }
        for item in found
    ]
    context.recorder.record(
        "error",
        subtype=subtype,
        inputs={"paths": [item.path for item in found], "conflicts": told},
        parent=parent,
        status="failed",
        error=first + " ".join(map(str, found)),
    )


def _put_back(work_dir: Path, path: str, source: str) -> None:
    """Have the version from ``source`` at a path, or no file at all."""
    if source and (work_dir / source).is_file():
        put(work_dir / source, work_dir, path)
    elif not source:
        (work_dir / path).unlink(missing_ok=True)
