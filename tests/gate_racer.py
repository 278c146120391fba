"""A process that answers gates when it is told to, through one door: python, cli, magic or rest."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import urllib.error
import urllib.request
from typing import Any

from cmbagent_nb import cli, verbs
from cmbagent_nb.errors import GateAlreadyAnswered, GateError
from cmbagent_nb.workspace import Workspace


def told(error: GateError) -> dict[str, Any]:
    """What the error says holds."""
    lost = isinstance(error, GateAlreadyAnswered)
    return {
        "yours": False,
        "holds": error.resolution if lost else None,
        "by": getattr(error, "by", ""),
        "said": str(error),
    }


def by_python(workspace: Workspace, gate: dict[str, Any], wanted: str, comment: str) -> dict[str, Any]:
    try:
        answer = workspace.run(gate["run_id"]).approve(gate["id"], wanted, comment, "python", gate["hash"])
    except GateError as error:
        return told(error)
    return {"yours": True, "holds": answer.resolution}


def by_magic(workspace: Workspace, gate: dict[str, Any], wanted: str, comment: str) -> dict[str, Any]:
    words = ["approve", gate["id"], "--choose", wanted, "--feedback", comment, "--hash", gate["hash"]]
    try:
        output = verbs.execute(workspace, words, front="magic")
    except GateError as error:
        return told(error)
    return {"yours": True, "holds": output.data["resolution"]}


def by_cli(workspace: Workspace, gate: dict[str, Any], wanted: str, comment: str) -> dict[str, Any]:
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = cli.main(["approve", gate["id"], "--choose", wanted, "--feedback", comment, "--json"])
    if status == 0:
        return {"yours": True, "holds": json.loads(out.getvalue())["resolution"]}
    line = error.getvalue().strip().splitlines()[-1]
    found = re.search(r"already answered by (.+): (\w+)\. Your answer does not count", line)
    return {"yours": False, "holds": found[2] if found else None, "said": line, "status": status}


def by_rest(url: str, gate: dict[str, Any], wanted: str, comment: str) -> dict[str, Any]:
    body = json.dumps({"resolution": wanted, "comment": comment, "hash": gate["hash"]}).encode()
    address, _, token = url.partition("#")
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}approvals/{gate['id']}/resolve", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            data = json.load(answer)
            return {"yours": data["yours"], "holds": data["approval"]["resolution"], "status": answer.status}
    except urllib.error.HTTPError as error:
        data = json.load(error)
        decision = data.get("decision") or {}
        return {"yours": False, "holds": decision.get("resolution"), "status": error.code, "said": data["message"]}


def main() -> None:
    door, url = sys.argv[1:3]
    workspace = Workspace()
    doors = {"python": by_python, "magic": by_magic, "cli": by_cli}
    print("ready", flush=True)
    for line in sys.stdin:
        gate, wanted, comment = json.loads(line)
        if door == "rest":
            outcome = by_rest(url, gate, wanted, comment)
        else:
            outcome = doors[door](workspace, gate, wanted, comment)
        print(json.dumps(outcome), flush=True)
    workspace.close()


if __name__ == "__main__":
    main()
