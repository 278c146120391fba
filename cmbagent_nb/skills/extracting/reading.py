"""Reads a notebook that a user gives, in the forms in which programs save it, and repairs what can be repaired.

Read: nbformat 2 to 4, with a byte order mark, in UTF-8, UTF-16 or Latin-1, cells without metadata, ids or outputs,
sources as text or list. What was repaired is told. Refused: what is no JSON or no notebook, and other languages.
"""

from __future__ import annotations

import ast
import codecs
import copy
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.magics import parsed, without_installs

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: A notebook that is larger is refused.
LARGEST = 256 * 2**20
#: Names of kernels, or their beginnings, and the languages that they run.
_KERNELS = {
    "ir": "R", "xr": "R", "r": "R", "julia": "Julia", "xcpp": "C++", "cling": "C++", "octave": "Octave",
    "matlab": "MATLAB", "imatlab": "MATLAB", "scala": "Scala", "almond": "Scala", "spylon": "Scala", "bash": "Bash",
    "zsh": "Zsh", "sos": "SoS", "sagemath": "SageMath", "javascript": "JavaScript", "jslab": "JavaScript",
    "tslab": "TypeScript", "typescript": "TypeScript", "deno": "TypeScript", "ihaskell": "Haskell",
    "haskell": "Haskell", "rust": "Rust", "evcxr": "Rust", "ruby": "Ruby", "gophernotes": "Go", "gonb": "Go",
    "java": "Java", "ijava": "Java", "rapaio": "Java", "kotlin": "Kotlin", "fortran": "Fortran", "lfortran": "Fortran",
    "wolfram": "Wolfram", "wljs": "Wolfram", "stata": "Stata", "sas": "SAS", "maxima": "Maxima", "gnuplot": "Gnuplot",
    "ocaml": "OCaml", "perl": "Perl", "iperl": "Perl", "lua": "Lua", "xsql": "SQL", "sql": "SQL", ".net-csharp": "C#",
    ".net-fsharp": "F#", ".net-powershell": "PowerShell", "powershell": "PowerShell", "csharp": "C#", "gap": "GAP",
    "singular": "Singular", "coq": "Coq", "prolog": "Prolog", "clojure": "Clojure", "c": "C", "cpp": "C++",
    "coffee": "CoffeeScript", "nodejs": "JavaScript", "elixir": "Elixir", "nim": "Nim", "swift": "Swift",
    "sparkr": "R", "sparkkernel": "Scala", "yacas": "Yacas", "root": "C++", "idl": "IDL", "vega": "Vega",
}  # fmt: skip
#: Cell magics that hand the cell to another language.
_OTHER_CELLS = {
    "r": "R", "bash": "Bash", "sh": "Bash", "script": "another program", "julia": "Julia", "perl": "Perl",
    "ruby": "Ruby", "javascript": "JavaScript", "js": "JavaScript", "octave": "Octave", "matlab": "MATLAB",
    "html": "HTML", "svg": "SVG", "latex": "LaTeX", "markdown": "Markdown", "cython": "Cython", "fortran": "Fortran",
    "sql": "SQL", "stata": "Stata", "rust": "Rust", "pypy": "PyPy", "python2": "Python 2", "cpp": "C++", "cmd": "cmd",
}  # fmt: skip
#: Cells that show something and compute nothing.
_SHOWN_ONLY = frozenset({"html", "svg", "latex", "markdown", "javascript", "js"})


@dataclass
class Given:
    """A notebook as it was read, without its outputs, and what had to be repaired."""

    notebook: NotebookNode
    repaired: list[str] = field(default_factory=list)


def read(place: Path) -> Given:
    """Read a notebook that a skill can be made of.

    Raises
    ------
    SkillError
        It is not there, no notebook, too large, or not in Python.
    """
    if not place.is_file():
        raise SkillError(f"there is no notebook {place}", "Check the path.", path=str(place))
    if place.stat().st_size > LARGEST:
        raise SkillError(f"{place.name} is larger than a notebook may be", "Clear its outputs.", path=str(place))
    repaired: list[str] = []
    data = _json(place, _text(place, repaired), repaired)
    _refuse_other_languages(place, data)
    notebook = _notebook(place, data, repaired)
    _refuse_newer(notebook)
    _refuse_other_cells(place, notebook)
    return Given(clean(notebook, repaired), list(dict.fromkeys(repaired)))


def _text(place: Path, repaired: list[str]) -> str:
    raw = place.read_bytes()
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(mark):
            repaired.append("a byte order mark was left out")
            return raw.decode(encoding, errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if raw.lstrip()[:1] != b"{":
            raise SkillError(
                f"{place.name} is not a notebook", "Give one that Jupyter has saved.", path=str(place)
            ) from None
        repaired.append("it is not in UTF-8 and was read as Latin-1")
        return raw.decode("latin-1")


def _json(place: Path, text: str, repaired: list[str]) -> dict[str, Any]:
    """Read a notebook's JSON; a comma too many is passed over."""
    try:
        data = json.loads(text)
    except RecursionError:
        data = None
    except ValueError as error:
        # Texts are matched first, so that a comma within one stays.
        loosened = re.sub(r'("(?:[^"\\]|\\.)*")|,(\s*[\]}])', lambda found: found[1] or found[2], text)
        try:
            data = json.loads(loosened)
            repaired.append("commas before a closing bracket were left out")
        except (ValueError, RecursionError):
            where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            hint = (
                "It holds the marks of a merge conflict: resolve it first."
                if re.search(r"^(<<<<<<<|>>>>>>>)", text, re.MULTILINE)
                else "Open it in Jupyter and save it again."
            )
            raise SkillError(f"{place.name} is not valid JSON{where} ({why})", hint, path=str(place)) from None
    if not isinstance(data, dict) or not isinstance(data.get("cells", data.get("worksheets")), list):
        raise SkillError(f"{place.name} is not a notebook", "Give one that Jupyter has saved.", path=str(place))
    return data


def _refuse_other_languages(place: Path, data: dict[str, Any]) -> None:
    language = _language(data)
    if not _is_python(language):
        raise SkillError(
            f"{place.name} is a notebook in {language}, and skills are made of notebooks in Python",
            "Take the part that is in Python.",
            path=str(place),
            language=language,
        )


def _language(data: dict[str, Any]) -> str:
    """Return a notebook's language: from what it says of itself, its kernel, the kernel's name, or its cells."""
    metadata = _mapping(data.get("metadata"))
    kernel, info = _mapping(metadata.get("kernelspec")), _mapping(metadata.get("language_info"))
    name = str(kernel.get("name") or metadata.get("kernel") or "").strip().casefold()
    said = [info.get("name"), kernel.get("language"), _mapping(metadata.get("papermill")).get("language")]
    found = [str(item).strip() for item in said if isinstance(item, str) and item.strip()]
    found += [_KERNELS[name]] if name in _KERNELS else []
    # A notebook that was taken over from another language keeps the old word in one of the places.
    other = [item for item in found if not _is_python(item)]
    if found or other:
        return (other or found)[0]
    by_name = _kernel_language(name) or ("" if name else _kernel_language(str(kernel.get("display_name") or "")))
    if by_name or _is_python(name):
        return by_name or "Python"
    cells = [cell for cell in data.get("cells") or [] if isinstance(cell, dict)]
    cells += [cell for sheet in data.get("worksheets") or [] for cell in _cells(_mapping(sheet))]
    languages = [str(cell["language"]) for cell in cells if isinstance(cell.get("language"), str)]
    return next((item for item in languages if not _is_python(item)), "Python")


def _is_python(text: str) -> bool:
    return re.match(r"(i|x|xeus-)?py", text, re.IGNORECASE) is not None


def _kernel_language(name: str) -> str:
    """Return the language of a kernel by its name, such as ``ir`` or ``julia-1.10``; nothing for one not known.

    >>> _kernel_language("conda-env-r-ir"), _kernel_language("julia-1.10"), _kernel_language("xcpp17")
    ('R', 'Julia', 'C++')
    >>> _kernel_language("conda-env-r-py"), _kernel_language("python3")
    ('', '')
    """
    words = [word for word in re.split(r"[\s_.\d-]+", name.casefold()) if word]
    return (
        next((_KERNELS[word] for word in (*words[-1:], *words[:1]) if word in _KERNELS), "")
        if (words and not any(map(_is_python, (words[0], words[-1]))))
        else ""
    )


def _refuse_other_cells(place: Path, notebook: NotebookNode) -> None:
    """Refuse a notebook none of whose computing cells is Python: the language is chosen by cell magics."""
    languages: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        found = re.match(r"\s*%%(\w+)", cell.source)
        name = found[1].casefold() if found else ""
        if name in _SHOWN_ONLY:
            continue
        languages.append(_OTHER_CELLS.get(name, ""))
        if not languages[-1] and _is_r(cell.source):
            languages[-1] = "R"
    others = [item for item in languages if item]
    if "R" in others or (others and len(others) == len(languages)):
        language = "R" if "R" in others else others[0]
        raise SkillError(
            f"{place.name} is a notebook in {language}, and skills are made of notebooks in Python",
            "Take the part that is in Python.",
            path=str(place),
            language=language,
        )


def _is_r(source: str) -> bool:
    """Tell whether code is R: its arrow assigns. In Python the same is a comparison that nobody looks at."""
    tree = parsed(source)
    if tree is None:
        return re.search(r"^\s*[\w.]+\s*<-\s*\S", source, re.MULTILINE) is not None
    return any(
        isinstance(item, ast.Expr)
        and isinstance(item.value, ast.Compare)
        and isinstance(item.value.ops[0], ast.Lt)
        and isinstance(item.value.left, ast.Name)
        and re.match(r"[\w.]+\s*<-", ast.get_source_segment(source, item) or "") is not None
        for item in tree.body
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _notebook(place: Path, data: dict[str, Any], repaired: list[str]) -> NotebookNode:
    nbformat = _nbformat()
    form = data.get("nbformat")
    if not isinstance(form, int) or isinstance(form, bool):
        form = 3 if "worksheets" in data else 4
        repaired.append(f"it did not say its form and was read as nbformat {form}")
    if form > 4:
        raise SkillError(
            f"{place.name} is of nbformat {form}, which is newer than 4", "Save it as nbformat 4.", nbformat=form
        )
    data = copy.deepcopy(data)
    data["nbformat"] = form
    if not isinstance(data.get("nbformat_minor"), int):
        data["nbformat_minor"] = 5 if form == 4 else 0
    for key in ("kernelspec", "language_info"):
        if key in _mapping(data.get("metadata")) and not isinstance(data["metadata"][key], dict):
            data["metadata"].pop(key)
            repaired.append(f"its {key} was empty and was left out")
    if not isinstance(data.get("metadata"), dict):
        data["metadata"] = {}
        repaired.append("its metadata were missing and were added")
    try:
        if form < 4:
            repaired.append(f"it is of nbformat {form} and was converted to 4")
            sheets = [item for item in data.get("worksheets") or [] if isinstance(item, dict)]
            data["worksheets"] = [{"cells": [_old_cell(cell) for item in sheets for cell in _cells(item)]}]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = json.loads(nbformat.writes(nbformat.reads(json.dumps(data), as_version=4)))
        else:
            if isinstance(data.get("worksheets"), list) and not isinstance(data.get("cells"), list):
                data["cells"] = [cell for sheet in data["worksheets"] for cell in _cells(_mapping(sheet))]
            data.pop("worksheets", None)
    except Exception as error:  # whatever a converter says about an old notebook that is damaged
        raise SkillError(
            f"{place.name} cannot be converted from nbformat {form} ({type(error).__name__})",
            "Open it in Jupyter and save it again.",
            path=str(place),
        ) from None
    data["cells"] = [cell for item in data["cells"] if (cell := _cell(item, repaired)) is not None]
    notebook: NotebookNode = nbformat.from_dict(data)
    return notebook


def _refuse_newer(notebook: NotebookNode) -> None:
    from cmbagent_nb.skills.notebook import FORMAT

    own = notebook.metadata.get("cmbagent_nb", {})
    form = own.get("format", 0) if isinstance(own, dict) else 0
    if isinstance(form, int) and form > FORMAT:
        raise SkillError(
            f"the notebook is of form {form}, which only a newer cmbagent_nb can read",
            "Update with: pip install -U cmbagent-nb.",
            format=form,
        )


def _cells(sheet: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in sheet.get("cells") or [] if isinstance(cell, dict)]


def _old_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell of nbformat 3 with what its converter relies on; outputs are not needed."""
    kind = str(cell.get("cell_type") or "code")
    cell = {**cell, "cell_type": kind, "metadata": _mapping(cell.get("metadata"))}
    if kind == "code":
        return {**cell, "outputs": [], "input": cell.get("input", cell.get("source", "")), "language": "python"}
    return {**cell, "source": cell.get("source", "")}


def _cell(item: Any, repaired: list[str]) -> dict[str, Any] | None:
    """Return a cell with what the form asks for and nothing that it does not know."""
    if not isinstance(item, dict):
        repaired.append("an entry that was no cell was left out")
        return None
    kind = item.get("cell_type")
    if kind not in ("code", "markdown", "raw"):
        kind = "markdown" if kind in ("heading", "html") else "code" if "outputs" in item else "raw"
        repaired.append(f"a cell of the kind {item.get('cell_type')!r} was read as {kind}")
    source = item.get("source", item.get("input"))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    elif not isinstance(source, str):
        source = ""
        repaired.append("a cell without source was read as empty")
    if not isinstance(item.get("metadata"), dict):
        repaired.append("cells without metadata got them")
    metadata = dict(_mapping(item.get("metadata")))
    if "tags" in metadata:
        tags = [metadata["tags"]] if isinstance(metadata["tags"], str) else metadata["tags"]
        metadata["tags"] = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    cell: dict[str, Any] = {"cell_type": kind, "metadata": metadata, "source": source}
    if isinstance(item.get("id"), str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", item["id"]):
        cell["id"] = item["id"]
    if kind == "code":
        cell |= {"outputs": [], "execution_count": None}
    elif "outputs" in item or "execution_count" in item:
        repaired.append(f"outputs of a {kind} cell were left out")
    if kind != "code" and isinstance(item.get("attachments"), dict):
        cell["attachments"] = item["attachments"]
    return cell


def clean(notebook: NotebookNode, repaired: list[str]) -> NotebookNode:
    """Return a notebook without outputs, with an id of its own for each cell.

    What papermill had injected for one execution is left out: it would stand against every other value. So are
    lines that install packages.
    """
    nbformat = _nbformat()
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    used: set[str] = set()
    for number, cell in enumerate(notebook.cells):
        if not cell.get("id") or cell["id"] in used:
            if cell.get("id"):
                repaired.append("cells with equal ids got ids of their own")
            cell["id"] = next(name for name in _ids(number) if name not in used)
        used.add(cell["id"])
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.source, lines = without_installs(cell.source)
            repaired += [f"{line} is not run: the packages are checked when the skill is" for line in lines]
    for key in ("widgets", "papermill"):
        notebook.metadata.pop(key, None)
    if not isinstance(notebook.metadata.get("kernelspec"), dict) or not notebook.metadata.kernelspec.get("name"):
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.kernelspec.setdefault("display_name", "Python 3")
    if "language_info" in notebook.metadata and not isinstance(notebook.metadata.language_info.get("name"), str):
        notebook.metadata.pop("language_info")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError:
        kept = {key: notebook.metadata[key] for key in ("kernelspec", "cmbagent_nb") if key in notebook.metadata}
        notebook.metadata = nbformat.from_dict(kept)
        for cell in notebook.cells:
            cell.metadata = nbformat.from_dict({"tags": sorted(set(cell.metadata.get("tags", [])))})
            cell.pop("attachments", None)
        repaired.append("metadata that are against the form were left out")
        nbformat.validate(notebook)
    return notebook


def _nbformat() -> Any:
    """Import nbformat, which has no types."""
    import nbformat

    return nbformat


def _ids(number: int) -> Any:
    yield f"cell-{number + 1}"
    yield from (f"cell-{number + 1}-{other}" for other in range(2, 10_000))


def codes(notebook: NotebookNode) -> list[str]:
    """Return the code of the cells as plain Python, but for the parameters."""
    from cmbagent_nb.skills.magics import plain_python
    from cmbagent_nb.skills.notebook import PARAMETERS

    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or PARAMETERS & set(cell.metadata.get("tags", [])):
            continue
        code = plain_python(cell.source)
        try:
            ast.parse(code)
        except (SyntaxError, ValueError):
            continue  # no Python in any reading: it is run, and fails where it does
        found.append(code)
    return found


def about(notebook: NotebookNode) -> str:
    """Return what a notebook says of itself: the first text under its title, else its title."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
            texts = [line for line in lines if not line.startswith(("#", ">", "<"))]
            return str((texts or [line.lstrip("# ") for line in lines] or [""])[0][:500])
    return ""
