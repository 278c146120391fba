"""The rows of ``skill_artifacts``: what a skill consists of and makes, one by one, to be looked for and compared.

| type | one for each | content |
|---|---|---|
| ``code`` | step | its code as the notebook has it, with the parameters that it takes |
| ``plot_template`` | picture that is made | the code of the step that draws it |
| ``config`` | skill | the parameters with their defaults |
| ``data_schema`` | input and output | what is in the file |
| ``asset`` | file that the skill brings | its size and checksum |
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.model import Parameter, StepCode
from cmbagent_nb.tool_files import files_below

_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".gif", ".webp")


def artifact_rows(
    steps: list[StepCode],
    codes: list[str],
    parameters: list[Parameter],
    schemas: dict[str, dict[str, Any]],
    assets: Path,
) -> list[dict[str, Any]]:
    """Return the rows, but for the skill's id, which it gets when it enters the library.

    Parameters
    ----------
    codes
        The code of each step as the notebook has it.
    schemas
        What is in each file that is read or made, by its path.
    """
    rows = []
    names = {item.name for item in parameters}
    for step, code in zip(steps, codes, strict=True):
        used = sorted(names & {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)})
        rows.append(_text("code", step.node_id, step.script, code, "python", used))
        for path in sorted(step.made):
            if path.lower().endswith(_PICTURES):
                rows.append(_text("plot_template", path, path, code, "python", used))
    defaults = {item.name: item.default for item in parameters}
    rows.append(_text("config", "parameters", None, json.dumps(defaults, ensure_ascii=False), "json", []))
    for path, schema in sorted(schemas.items()):
        rows.append(_text("data_schema", path, path, json.dumps(schema, ensure_ascii=False), "json", []))
    rows += [_asset(place, place.relative_to(assets).as_posix()) for place in files_below(assets)]
    return rows


def _text(kind: str, name: str, path: str | None, content: str, language: str, variables: list[str]) -> dict[str, Any]:
    data = content.encode("utf-8", "surrogatepass")
    return {
        "id": new_id(),
        "artifact_type": kind,
        "name": name,
        "path": path,
        "content": content,
        "language": language,
        "is_template": bool(variables),
        "template_variables": variables,
        "size_bytes": len(data),
        "checksum": hashlib.sha256(data).hexdigest(),
    }


def _asset(place: Path, name: str) -> dict[str, Any]:
    with place.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "id": new_id(),
        "artifact_type": "asset",
        "name": name,
        "path": f"assets/{name}",
        "content": None,
        "language": None,
        "is_template": False,
        "template_variables": [],
        "size_bytes": place.stat().st_size,
        "checksum": checksum,
    }
