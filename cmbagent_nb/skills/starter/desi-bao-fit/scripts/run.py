"""Run this skill's notebook: ``python scripts/run.py [NAME=VALUE ...] [--out FOLDER]``.

Needs papermill and the packages that SKILL.md names; what the notebook makes is put into a new folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

SKILL = Path(__file__).resolve().parent.parent


def main() -> int:
    """Copy the inputs into a folder, run the notebook there, and name what it made."""
    import papermill

    parser = argparse.ArgumentParser(description="Run this skill's notebook.")
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE", help="values for its parameters")
    parser.add_argument("--out", default="", help="the folder to work in (default: a new one)")
    options = parser.parse_args()
    values = {}
    for word in options.values:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            parser.error(f"{word!r} is no value for a parameter: write NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = {"True": True, "False": False}.get(text, text)
    folder = Path(options.out or tempfile.mkdtemp(prefix="skill-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if (SKILL / "assets").is_dir():
        shutil.copytree(SKILL / "assets", folder, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    papermill.execute_notebook(
        str(SKILL / "notebook.ipynb"),
        str(folder / "notebook.ipynb"),
        parameters=values,
        cwd=str(folder),
        kernel_name="python3",
        progress_bar=False,
    )
    for path in sorted(folder.rglob("*")):
        if path.is_file() and before.get(path) != path.stat().st_mtime_ns:
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
