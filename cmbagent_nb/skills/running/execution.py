"""Holds the outcome of an execution of a skill, and shows it."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb.skills.library import NOTEBOOK

_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
_LARGEST_PICTURE = 2 * 2**20


@dataclass(frozen=True)
class SkillExecution:
    """Outcome of an execution of a skill: its status, files, numbers and executed notebook."""

    id: str
    skill: str
    version: int
    status: str
    work_dir: Path
    parameters: dict[str, Any]
    outputs: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    error: str = ""
    adapted: bool = False
    #: What was not as it has been seen before: :mod:`cmbagent_nb.skills.running.deviation`.
    deviations: list[dict[str, Any]] = field(default_factory=list)
    #: What was noticed before it ran, such as another version of a package.
    notes: list[str] = field(default_factory=list)

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.work_dir / NOTEBOOK

    @property
    def success(self) -> bool:
        """Whether all cells ran."""
        return self.status == "completed"

    def path(self, output: str) -> Path:
        """Return the place of one of :attr:`outputs`."""
        return self.work_dir / output

    def as_dict(self) -> dict[str, Any]:
        """Return the execution as JSON shows it."""
        return {
            "execution_id": self.id,
            "skill": self.skill,
            "version": self.version,
            "status": self.status,
            "parameters": self.parameters,
            "work_dir": str(self.work_dir),
            "notebook": str(self.notebook),
            "outputs": self.outputs,
            "metrics": self.metrics,
            "duration_s": self.duration_s,
            "adapted": self.adapted,
            "error": self.error or None,
            "deviations": self.deviations,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        made = f"{len(self.outputs)} file{'s' if len(self.outputs) != 1 else ''}"
        said = f"{self.status} in {self.duration_s:.1f} s, {made}, no model call"
        found = "; ".join([*([self.error] if self.error else []), *self._findings()])
        return f"{self.skill} v{self.version}: {said}" + (f"; {found}" if found else "")

    def _findings(self) -> list[str]:
        """Say what deviates, but for the error, which is told anyway."""
        return [str(item["reason"]) for item in self.deviations if item["kind"] != "error"]

    def _repr_html_(self) -> str:
        colour = "var(--jp-success-color1, #2e7d32)" if self.success else "var(--jp-error-color1, #b3261e)"
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        parts = [
            f'<div class="cmbagent-skill-run"><b>{html.escape(self.skill)}</b> v{self.version} '
            f'<span style="color:{colour}">{"✔" if self.success else "✘"} {html.escape(self.status)}</span> '
            f"in {self.duration_s:.1f} s, no model call" + (f" · {html.escape(given)}" if given else "")
        ]
        if self.error:
            parts.append(f'<pre style="color:{colour};white-space:pre-wrap">{html.escape(self.error)}</pre>')
        for said in self._findings():
            parts.append(f'<div style="color:var(--jp-warn-color1, #b26a00)">⚠ {html.escape(said)}</div>')
        parts += [f"<div>{html.escape(note)}</div>" for note in self.notes]
        if self.metrics:
            lines = "".join(
                f"<tr><td>{html.escape(name)}</td><td>{value:.6g}</td></tr>"
                for name, value in list(self.metrics.items())[:30]
            )
            parts.append(f"<table><tbody>{lines}</tbody></table>")
        for name in self.outputs:
            parts.append(self._picture(name))
        files = ", ".join(f"<code>{html.escape(name)}</code>" for name in self.outputs)
        parts.append(f"<div>{files or 'no files'} in <code>{html.escape(str(self.work_dir))}</code></div></div>")
        return "".join(parts)

    def _picture(self, name: str) -> str:
        kind = _PICTURES.get(PurePosixPath(name).suffix.lower())
        place = self.path(name)
        if kind is None or not place.is_file() or place.stat().st_size > _LARGEST_PICTURE:
            return ""
        from cmbagent_nb.render.pictures import data_uri

        source = data_uri(place.read_bytes(), f"image/{kind}")
        return f'<img alt="{html.escape(name, quote=True)}" style="max-width:100%" src="{source}">'
