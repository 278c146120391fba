"""A small skill as it travels, made by hand, for the tests of sharing: two cells, one input, one result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmbagent_nb.skills.sharing import manifest
from cmbagent_nb.skills.sharing.export import write_files
from cmbagent_nb.skills.sharing.package import MANIFEST, NOTEBOOK, ROW, Package

PARAMETERS = "power: int = 2  # exponent\nnumbers_file: str = 'input/numbers.txt'"
CODE = """import json
from pathlib import Path

Path("data").mkdir(exist_ok=True)
total = sum(float(line) ** power for line in Path(numbers_file).read_text().split())
Path("data/total.json").write_text(json.dumps({"total": total}))
print(total)"""


def cell(source: str, name: str, tag: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": name,
        "source": source,
        "metadata": {"tags": [tag], **({"cmbagent_nb": {"node_id": name}} if tag == "step" else {})},
        "outputs": [],
        "execution_count": None,
    }


def notebook(code: str = CODE) -> dict[str, Any]:
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "cmbagent_nb": {"format": 1},
        },
        "cells": [cell(PARAMETERS, "parameters", "parameters"), cell(code, "step_1", "step")],
    }


def row(name: str = "power_sum", version: int = 1) -> dict[str, Any]:
    def parameter(name: str, kind: str, default: Any) -> dict[str, Any]:
        return {"name": name, "type": type(default).__name__, "default": default, "kind": kind, "help": "", "unit": ""}

    return {
        "format": 1,
        "name": name,
        "version": version,
        "description": "Sum the powers of the numbers in a file",
        "tags": ["sum"],
        "task_pattern": "Sum the squares of the numbers in the file.",
        "parameters": [parameter("power", "value", 2), parameter("numbers_file", "input", "input/numbers.txt")],
        "input_schema": {"input/numbers.txt": {"kind": "other"}},
        "output_schema": {},
        "preconditions": {"packages": {}, "files": []},
        "postconditions": {"files": ["data/total.json"]},
        "verification": {"verified": True, "summary": "1 of 1 file reproduced", "reason": "", "files": [], "notes": []},
        "visibility": "public",
        "license": "MIT",
        "made_by": "cmbagent_nb 0.1.0",
        "made_on": {"system": "Elsewhere"},
    }


def package(name: str = "power_sum", code: str = CODE, about: dict[str, Any] | None = None) -> Package:
    """A package that can be imported."""
    return manifest.seal(
        Package(
            {
                NOTEBOOK: json.dumps(notebook(code), indent=1).encode(),
                ROW: json.dumps({**row(name), **(about or {})}).encode(),
                "SKILL.md": f"---\nname: {name}\ndescription: sums\n---\n".encode(),
                "assets/input/numbers.txt": b"1\n2\n3\n",
                "expected/data/total.json": b'{"total": 14.0}',
            }
        )
    )


def put(made: Package, folder: Path) -> Path:
    """Write a package's files, whatever they are, as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_files(made, folder)
    return folder


def resealed(made: Package, **files: bytes) -> Package:
    """A package with some files changed (``__`` stands for a slash or a dot), and a manifest that agrees."""
    changed = {path: content for path, content in made.files.items() if path != MANIFEST}
    return manifest.seal(Package({**changed, **files}))
