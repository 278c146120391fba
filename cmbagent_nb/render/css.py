"""The style sheet of everything that shows a run: the live view and the static one.

Colours come from JupyterLab's own variables, so that both themes are followed without being
asked; outside of JupyterLab the page's colours and the reader's preference are taken.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cmbagent_nb.render.status import TONES

_GATE = {
    "light": "--cmbv-gate:#fff7e6;--cmbv-gateline:#f0b429;",
    "dark": "--cmbv-gate:#2a2210;--cmbv-gateline:#a16207;",
}


@cache
def css() -> str:
    """Return the style sheet."""
    light = "".join(f"--cmbv-{tone.name}:{tone.light};" for tone in TONES) + _GATE["light"]
    dark = "".join(f"--cmbv-{tone.name}:{tone.dark};" for tone in TONES) + _GATE["dark"]
    return (
        f".cmbv{{{light}}}\n"
        f"body[data-jp-theme-light='false'] .cmbv,body.vscode-dark .cmbv{{{dark}}}\n"
        "@media (prefers-color-scheme:dark){"
        f"body:not([data-jp-theme-light]):not(.vscode-light) .cmbv{{{dark}}}}}\n"
        + sheet(Path(__file__).with_name("run.css"))
    )


def sheet(path: Path) -> str:
    """Read a style sheet of the package, without what only its readers need.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.css"
    >>> _ = path.write_text("a {\\n  color: red;\\n}\\n")
    >>> sheet(path)
    'a {color: red;}\\n'
    """
    text = path.read_text(encoding="utf-8")
    return text.replace("{\n  ", "{").replace(";\n  ", ";").replace(";\n}", ";}").replace(",\n", ",")
