"""What is promised to users, as data: the Python API, the commands with their options, the REST routes, JSON shapes.

``python -m tests.interfaces`` writes it to ``tests/golden/interfaces``; a change of those files is a change of a
promise, made on purpose and told in the changelog.
"""

from __future__ import annotations

import inspect
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden" / "interfaces"
WORKSPACE = Path(__file__).parent / "golden" / "workspace-0.1.0.tar.gz"

#: Commands that read, with the words after each.
READING = {
    "runs": "",
    "show": "decided",
    "status": "decided",
    "steps": "decided",
    "nodes": "decided",
    "events": "decided",
    "messages": "decided",
    "files": "decided",
    "lineage": "squares data/squares.json",
    "costs": "decided",
    "history": "decided",
    "checkpoints": "decided",
    "decisions": "decided",
    "approvals": "",
    "skills": "",
    "skill show": "sum_squares",
    "skill code": "sum_squares",
    "skill executions": "sum_squares",
    "skill match": "'Sum 6 squares.'",
    "skill versions": "sum_squares",
    "skill stats": "sum_squares",
    "agents": "",
    "agents show": "engineer",
    "models": "",
    "config": "",
}
#: GET addresses below ``/cmbagent/api``.
ADDRESSES = (
    "runs",
    "runs/decided",
    "runs/decided/status",
    "runs/decided/steps",
    "runs/decided/events",
    "runs/decided/dag",
    "approvals/pending",
    "skills",
    "skills/sum_squares",
    "skills/sum_squares/executions",
    "skills/sum_squares/performance",
    "skills/sum_squares/versions",
    "analytics/skills/top",
)


def unpack(folder: Path) -> Path:
    """Unpack the workspace of version 0.1 into a folder, and return its place."""
    with tarfile.open(WORKSPACE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "workspace"


def python() -> dict[str, Any]:
    """Return the public names, and the signatures of the members of the classes that a user holds."""
    import cmbagent_nb as cmb
    from cmbagent_nb import errors
    from cmbagent_nb.skills.handle import Skill

    found: dict[str, Any] = {"cmbagent_nb": sorted(cmb.__all__)}
    for holder in (cmb.Workspace, cmb.Run, Skill):
        members: dict[str, str] = {}
        for name in sorted({*dir(holder), *getattr(holder, "__dataclass_fields__", ())}):
            value = inspect.getattr_static(holder, name, None)
            if not name.startswith("_"):
                members[name] = str(inspect.signature(value)) if inspect.isfunction(value) else "attribute"
        found[holder.__name__] = members
    found["errors"] = sorted(
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)
    )
    return found


def commands() -> dict[str, Any]:
    """Return the commands of the CLI and of the magic, with their options."""
    from cmbagent_nb.verbs import VERBS, parser
    from cmbagent_nb.verbs.declare import ALIASES

    found: dict[str, Any] = {"aliases": {name: list(words) for name, words in sorted(ALIASES.items())}}
    for front, prog in (("cli", "cmbagent"), ("magic", "%cmbagent")):
        made = parser(prog)
        found[front] = {
            name: [
                " ".join(action.option_strings) or f"{action.dest} ({action.nargs})"
                for action in made.verb_parser(verb)._actions
                if not {"--json", "--debug", "--help"} & {*action.option_strings}
            ]
            for name, verb in sorted(VERBS.items())
        }
    return found


def rest() -> list[str]:
    """Return the addresses of the server with their methods."""
    from cmbagent_nb.server.base import Handler
    from cmbagent_nb.server.routes import routes

    found = []
    for address, handler, _ in routes("/"):
        base = Handler.__mro__[1]
        methods = [
            name.upper()
            for name in ("get", "post", "put", "patch", "delete")
            if getattr(handler, name) is not getattr(base, name, None)
        ]
        found.append(f"{' '.join(methods)} {address}")
    return found


def shape(value: Any) -> Any:
    """Return the types of JSON, key by key; a list has the types of all that it holds.

    >>> shape([{"a": 1}, {"a": None, "b": "x"}])
    [{'a': 'int|null', 'b?': 'str'}]
    """
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [_merged([shape(item) for item in value])] if value else []
    return "null" if value is None else type(value).__name__


def _merged(shapes: list[Any]) -> Any:
    if all(isinstance(item, dict) for item in shapes):
        names = sorted({name for item in shapes for name in item})
        return {
            name if all(name in item for item in shapes) else f"{name}?": _merged(
                [item[name] for item in shapes if name in item]
            )
            for name in names
        }
    if all(isinstance(item, list) for item in shapes):
        held = [item[0] for item in shapes if item]
        return [_merged(held)] if held else []
    kinds = sorted({item if isinstance(item, str) else type(item).__name__ for item in shapes})
    return "|".join(dict.fromkeys(part for kind in kinds for part in kind.split("|")))


def command_shapes(home: Path) -> dict[str, Any]:
    """Return the shape of what each command that reads gives with ``--json``, in the workspace of version 0.1."""
    from cmbagent_nb.verbs import execute
    from cmbagent_nb.workspace import Workspace

    workspace, found = Workspace(home), {}
    for name, words in READING.items():
        found[name] = shape(json.loads(execute(workspace, f"{name} {words} --json").text))
    workspace.close()
    return found


def rest_shapes(get: Callable[[str], Any]) -> dict[str, Any]:
    """Return the shape of what each address that is read gives, by a function that gets it."""
    return {address: shape(get(address)) for address in ADDRESSES}


def main() -> None:
    """Write all of it."""
    from tests.rest_server import Server

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CMBAGENT_WORKSPACES_FILE"] = f"{folder}/workspaces.json"
        os.environ["CMBAGENT_STARTER_SKILLS"] = "off"
        home = unpack(Path(folder))
        found = {"python": python(), "commands": commands(), "rest": rest(), "command_shapes": command_shapes(home)}
        server = Server(Path(folder), [unpack(Path(folder, "again"))])
        found["rest_shapes"] = rest_shapes(lambda address: server.ask(address)[1])
        server.stop()
    for name, value in found.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
