"""The notebook of a skill: readable on its own, run by papermill, the same for the same code.

Cells: what it is; the parameters (tagged as papermill wants them); the imports; the folders and
inputs it needs; then for each step a heading and its code. Where it came from is in the
metadata under ``cmbagent_nb``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.redaction import scrub
from cmbagent_nb.skills.model import Parameter, StepCode

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: The form of what the metadata say; a notebook of a newer one is not read.
FORMAT = 1
#: Tags of cells that give parameters their values; of those that a fresh kernel needs first; of those that only show.
PARAMETERS = frozenset({"parameters", "injected-parameters", "outputs"})
PREAMBLE = PARAMETERS | {"imports", "setup", "derived"}
SHOWS = "show"
NO_STEPS = PREAMBLE | {SHOWS}
#: The folders that code which a model wrote may rely on.
FOLDERS = ("input", "data", "plots", "codebase")


@dataclass(frozen=True)
class Content:
    """Parts of which the notebook is made."""

    name: str
    task: str
    description: str
    parameters: list[Parameter]
    imports: str
    steps: list[tuple[StepCode, str]]
    assets: list[str]
    modules: list[str]
    #: Whether each step runs in a kernel of its own, as it did in the run.
    fresh_kernels: bool
    provenance: dict[str, Any]
    #: Groups of steps that need not each other.
    parallel: list[list[str]] = field(default_factory=list)
    #: The steps that each step needs.
    needs: dict[str, list[str]] = field(default_factory=dict)


def build(content: Content) -> NotebookNode:
    """Build the notebook."""
    nbformat = _nbformat()
    new_code_cell, new_markdown_cell = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [new_markdown_cell(_opening(content), id="about")]
    outputs = [item for item in content.parameters if item.kind == "output"]
    others = [item for item in content.parameters if item.kind != "output"]
    if outputs:
        # Before the parameters, after which papermill puts the values of an execution.
        folded = {"tags": ["outputs"], "jupyter": {"source_hidden": True}}
        cells.append(
            new_code_cell(f"# names of the files\n{parameters_source(outputs)}", id="outputs", metadata=folded)
        )
    source = parameters_source(others) if others or not outputs else "# Its only parameters are the names above."
    cells.append(new_code_cell(source, id="parameters", metadata={"tags": ["parameters"]}))
    if content.imports:
        cells.append(new_code_cell(content.imports, id="imports", metadata={"tags": ["imports"]}))
    cells.append(new_code_cell(_setup(content), id="setup", metadata={"tags": ["setup"]}))
    for step, code in content.steps:
        cell_id = re.sub(r"[^A-Za-z0-9_-]", "-", step.node_id)[:50]
        cells.append(new_markdown_cell(_heading(content, step), id=f"{cell_id}-about"))
        fresh = content.fresh_kernels and step is not content.steps[0][0]
        about = {"tags": ["step"], "cmbagent_nb": {"node_id": step.node_id, "fresh_kernel": fresh}}
        cells.append(new_code_cell(code, id=cell_id, metadata=about))
        showing = _showing(step, outputs)
        if showing:
            folded = {"tags": [SHOWS], "jupyter": {"source_hidden": True}}
            cells.append(new_code_cell(showing, id=f"{cell_id}-shows", metadata=folded))
    notebook: NotebookNode = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "cmbagent_nb": content.provenance,
        },
    )
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def _nbformat() -> Any:
    """Import nbformat, which has no types."""
    import nbformat

    return nbformat


def read_notebook(text: str) -> NotebookNode:
    """Read a notebook from its text.

    Raises
    ------
    SkillError
        It is no notebook, or of a form newer than this version knows.
    """
    try:
        data = json.loads(text)
        form, own = int(data["nbformat"]), data["metadata"].get("cmbagent_nb", {})
        known = int(own.get("format", 0)) if isinstance(own, dict) else 0
        list(data["cells"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SkillError("this is not a notebook", "Give one that Jupyter has saved, of the form nbformat 4.") from None
    if form != 4 or known > FORMAT:
        what = f"nbformat {form}" if form != 4 else f"form {known}, which only a newer cmbagent_nb can read"
        raise SkillError(
            f"the notebook is of {what}",
            "Save it as nbformat 4." if form != 4 else "Update with: pip install -U cmbagent-nb.",
            nbformat=form,
            format=known,
        )
    notebook: NotebookNode = _nbformat().reads(text, as_version=4)
    return notebook


def notebook_text(notebook: NotebookNode) -> str:
    """Return a notebook's text, as it is in its file, with secrets masked."""
    return scrub(str(_nbformat().writes(notebook))) + "\n"


def parameters_source(parameters: list[Parameter]) -> str:
    """Return the source of the parameters cell.

    >>> print(parameters_source([Parameter("lmax", "int", 2508, help="highest multipole")]))
    lmax: int = 2508  # highest multipole
    """
    if not parameters:
        return "# This skill has no parameters."
    return "\n".join(_line(item) for item in parameters)


def _line(item: Parameter) -> str:
    help_ = " ".join(item.help.split())
    unit = " ".join(item.unit.split())  # in one line, like the help: what comes after a comment would be code
    if unit and unit not in help_:
        help_ = f"{help_} [{unit}]" if help_ else f"[{unit}]"
    return f"{item.name}: {item.type} = {item.default!r}" + (f"  # {help_}" if help_ else "")


def _opening(content: Content) -> str:
    run = content.provenance["run"]
    lines = [f"# {content.name}", ""]
    if content.description and content.description.strip() != content.task.strip():
        lines += [content.description, ""]
    if content.task:
        lines += ["Made from a run of this task:", "", *(f"> {line}" for line in content.task.strip().splitlines()), ""]
    steps = ", ".join(step.node_id for step, _ in content.steps)
    lines += [
        f"Run `{run['name'] or run['id']}`, {steps}. "
        "No model is called when this notebook runs; change the parameters below.",
    ]
    if content.parallel:
        groups = "; ".join(" and ".join(names) for names in content.parallel)
        lines += ["", f"Side by side in the run, each independent of the other: {groups}."]
    if content.fresh_kernels:
        lines += [
            "",
            "As a skill, each step runs in a fresh kernel, as it did in the run: a library keeps something in memory "
            "that changes the results of a later step. Run by hand in one kernel, they may differ slightly.",
        ]
    return "\n".join(lines)


def _heading(content: Content, step: StepCode) -> str:
    number = step.node_id.removeprefix("step_")
    lines = [f"## {number}. {step.title}" if number.isdigit() and step.title != step.node_id else f"## {step.title}"]
    if step.instructions and step.instructions.strip() != content.task.strip():
        lines += ["", without_values(step.instructions.strip(), content.parameters)]
    about = f"Code by {step.agent or 'an agent'}, attempt {step.attempt}"
    made = [f"`{path}`" for path in step.made]
    needs = content.needs.get(step.node_id, [])
    beside = [name for group in content.parallel if step.node_id in group for name in group if name != step.node_id]
    about += f"; needs {', '.join(needs)}" if needs else ""
    about += f"; side by side with {', '.join(beside)}" if beside else ""
    lines += ["", f"<small>{about}{'; makes ' + ', '.join(made) if made else ''}.</small>"]
    return "\n".join(lines)


def without_values(text: str, parameters: list[Parameter]) -> str:
    """Return prose with the names of parameters in place of their values, which may be others when it is read.

    >>> without_values("Fit up to lmax 2508, with 3 knots.", [Parameter("lmax", "int", 2508), Parameter("k", "int", 3)])
    'Fit up to lmax `lmax`, with 3 knots.'
    """
    for item in parameters:
        value = str(item.default)
        number = isinstance(item.default, (int, float)) and not isinstance(item.default, bool)
        said = number and (len(value) > 2 or "." in value)
        # A word of the language is no value, though it may be one's text.
        named = isinstance(item.default, str) and len(value) > 2 and re.fullmatch(r"[A-Za-z ]+", value) is None
        if (said or named) and "\n" not in value:
            text = re.sub(rf"(?<![\w.`]){re.escape(value)}(?![\w`]|\.\d)", f"`{item.name}`", text)
    return text


#: Files that are shown under the step that made them.
_SHOWN = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".csv", ".parquet")
_SHOW = """\
def show_files(*names):
    \"\"\"Show figures and the first rows of tables.\"\"\"
    import os

    import pandas as pd
    from IPython.display import SVG, Image, display

    readers = {".svg": SVG, ".csv": lambda name: pd.read_csv(name, nrows=20)}
    readers[".parquet"] = lambda name: pd.read_parquet(name).head(20)
    for name in filter(os.path.isfile, names):
        try:
            display(readers.get(os.path.splitext(name)[1].lower(), Image)(name))
        except Exception as error:
            print(f"{name} cannot be shown: {error}")"""


def _showing(step: StepCode, outputs: list[Parameter]) -> str:
    """Return the line that shows the figures and tables that a step made."""
    names = {item.default: item.name for item in outputs}
    shown = [names.get(path, repr(path)) for path in step.made if path.lower().endswith(_SHOWN)]
    return f"show_files({', '.join(shown)})" if shown else ""


def _setup(content: Content) -> str:
    """Make the folders that the code writes to, and bring the inputs when the notebook is opened in its own folder."""
    lines = ["import shutil", "from pathlib import Path", ""]
    if content.modules:
        lines[:0] = ["import sys"]
        lines += ["# modules of the run that the code imports", "sys.path[:0] = ['codebase', '.']"]
    lines += [f"for folder in {FOLDERS!r}:", "    Path(folder).mkdir(exist_ok=True)"]
    if content.assets:
        lines += [
            'if Path("assets").is_dir():  # opened in the skill\'s own folder',
            '    shutil.copytree("assets", ".", dirs_exist_ok=True)',
        ]
    else:
        lines.remove("import shutil")
    if any(_showing(step, []) for step, _ in content.steps):
        lines += ["", "", _SHOW]
    return "\n".join(lines)


#: Begins the hashes of a notebook's code; those of earlier versions are of its whole text.
HASH_FORM = "code1-"
#: Tags that change how a cell is run.
_TAGS = frozenset({"parameters", "injected-parameters", "imports", "setup", "step", "fixed", "raises-exception"})


def notebook_hash(text: str) -> str:
    """Return the hash by which a notebook is known whose code was changed.

    What running and saving a notebook changes (outputs, counts, ids, metadata, an empty cell at its end) is not in it.
    """
    cells = list(running_cells(text))
    return HASH_FORM + hashlib.sha256(json.dumps(cells, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def running_cells(text: str) -> Iterator[list[Any]]:
    """Return what each cell of a notebook runs: its code, its tags, and what our metadata say about how."""
    try:
        cells = json.loads(text)["cells"]
        for cell in cells:
            source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            code = source.replace("\r\n", "\n").strip("\n")
            if cell["cell_type"] != "code" or not code.strip():
                continue
            metadata = cell.get("metadata") or {}
            tags = sorted({str(tag) for tag in metadata.get("tags") or []} & _TAGS)
            yield [code, tags, metadata.get("cmbagent_nb")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield [text, [], None]


def code_hash(code: str) -> str:
    """Return the sha256 of a step's code."""
    return hashlib.sha256(code.encode()).hexdigest()


def package_versions(codes: list[str]) -> dict[str, str]:
    """Return the versions of the packages that the code imports, and Python's own."""
    import ast
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    modules: set[str] = set()
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    versions = {"python": platform.python_version()}
    for module in sorted(modules - set(sys.stdlib_module_names)):
        for distribution in known.get(module, [])[:1]:
            try:
                versions[distribution] = version(distribution)
            except PackageNotFoundError:
                continue
    return versions
