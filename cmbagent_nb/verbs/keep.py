"""The verbs that keep runs: archive and delete, import, backup and restore."""

from __future__ import annotations

from pathlib import Path

from cmbagent_nb.errors import UsageError
from cmbagent_nb.render.text import plural, size
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output, grid, plain
from cmbagent_nb.verbs.run import headline, summary

ONE = arg("run", metavar="RUN", help="a run: its name, its id or a part of it")


@verb(
    "archive",
    arg("--older-than", metavar="SPAN", help="runs that ended so long ago, such as 90d (the setting archive_days)"),
    arg("--dry-run", action="store_true", help="only list the runs that would be archived"),
    arg("--compact", action="store_true", help="give the space back to the disk; others wait meanwhile"),
    group="runs",
)
def archive(call: Call) -> Output:
    """Move the rows of runs that ended long ago out of the database; they read as before.

    The rows go to Parquet files in the workspace's folder 'archive'; the folders of the runs stay as they are.
    """
    options = call.options
    call.refresh()
    done = plain(call.ws.admin.archive(options.older_than, dry_run=options.dry_run))
    freed = call.ws.admin.compact() if options.compact and not options.dry_run else None

    def text() -> str:
        columns = ["id", "name", "status", "ended_at"] if options.dry_run else ["id", "name", "rows", "size_bytes"]
        lines = [grid(done, columns, "No run ended that long ago.")]
        if freed is not None:
            lines.append(f"{size(freed)} given back to the disk.")
        return "\n".join(lines)

    return Output({"runs": done, "dry_run": options.dry_run, "freed_bytes": freed}, text)


@verb("unarchive", ONE, group="runs")
def unarchive(call: Call) -> Output:
    """Bring the rows of an archived run back into the database."""
    found = call.ws.admin.unarchive(call.options.run)
    return Output(summary(call.ws, found), f"The rows of {found.name} are in the database again.")


@verb("delete", ONE, arg("--yes", action="store_true", help="delete it without asking"), group="runs")
def delete(call: Call) -> Output:
    """Delete a run for good, with its folder; skills that were made of it stay."""
    found = call.run()
    if not call.options.yes:
        raise UsageError(
            f"{found.name} and its folder {found.work_dir} would be gone for good",
            f"Say so with {call.prog} delete {call.options.run} --yes.",
            run_id=found.id,
        )
    said = call.ws.admin.delete(found.id)
    return Output({"run_id": found.id, "name": found.name, "deleted": True}, said)


@verb(
    "import",
    arg("folder", metavar="DIR", help="the work dir of a CMBAgent run"),
    arg("--name", metavar="N", help="a name for the run"),
    arg("--task", metavar="TASK", help="what was asked for, where the work dir does not say it"),
    arg("--again", action="store_true", help="import it although it was imported before"),
    group="runs",
)
def import_dir(call: Call) -> Output:
    """Take the work dir of a CMBAgent run into the record, with its plan, chats, costs, times and files."""
    options = call.options
    found = call.ws.admin.import_dir(options.folder, name=options.name, task=options.task or "", again=options.again)
    skipped = found.snapshot().run["meta"]["imported"]["skipped"]
    made = {**summary(call.ws, found), "skipped": skipped}

    def text() -> str:
        frames = {"step": found.steps(), "message": found.messages(), "cost": found.costs(), "file": found.files()}
        parts = ", ".join(plural(len(frame), noun) for noun, frame in frames.items())
        lines = [headline(made), f"  {parts}", f"  work dir  {made['work_dir']}"]
        return "\n".join([*lines, *(f"  skipped: {item}" for item in skipped)])

    return Output(made, text, display=found)


@verb("backup", arg("file", metavar="FILE", help="the file to write, such as cmbagent.tar.gz"), group="the rest")
def backup(call: Call) -> Output:
    """Write the whole workspace into one file; runs may go on meanwhile.

    A database on a PostgreSQL server is not in it: pg_dump does that.
    """
    made = call.ws.admin.backup(call.options.file)
    said = f"{plural(made.runs, 'run')} and {plural(made.files, 'file')} in {made.path} ({size(made.size_bytes)})."
    data = {"file": made.path, "runs": made.runs, "files": made.files, "size_bytes": made.size_bytes}
    return Output({**data, "notes": made.notes}, "\n".join([said, *made.notes]))


@verb(
    "restore",
    arg("file", metavar="FILE", help="a file that backup has made"),
    group="the rest",
    needs_workspace=False,
)
def restore(call: Call) -> Output:
    """Put a backup into an empty workspace: CMBAGENT_HOME=DIR cmbagent restore FILE."""
    from cmbagent_nb.admin import restore_workspace

    home = call.given.home if call.given is not None else None
    made = restore_workspace(Path(call.options.file), home)
    said = f"{plural(made.runs, 'run')} and {plural(made.files, 'file')} put back into {made.home}."
    data = {"file": made.path, "home": made.home, "runs": made.runs, "files": made.files}
    return Output({**data, "notes": made.notes}, "\n".join([said, *made.notes]))
