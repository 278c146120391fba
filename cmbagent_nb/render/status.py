"""The look of a status: one place for its glyph, its words and its colour.

Shape carries the meaning as well as colour does: every status has a glyph, a waiting one is
dashed. ``ink`` reads on a white and on a black page alike; ``light`` and ``dark`` are for
pages whose theme is known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tone:
    """One meaning, one colour."""

    name: str
    ink: str
    light: str
    dark: str


@dataclass(frozen=True)
class Look:
    """Colors and glyph of a status."""

    glyph: str
    label: str
    tone: Tone
    dashed: bool = False


OK = Tone("ok", "#1a9350", "#15803d", "#4ade80")
RUN = Tone("run", "#3d7ff0", "#2563eb", "#7aa2ff")
WAIT = Tone("wait", "#c87511", "#b45309", "#fbbf24")
FAIL = Tone("fail", "#e0454a", "#b91c1c", "#f87171")
IDLE = Tone("idle", "#808a95", "#8a94a0", "#6b7480")
TONES = (OK, RUN, WAIT, FAIL, IDLE)

LOOKS = {
    "draft": Look("○", "draft", IDLE),
    "pending": Look("○", "pending", IDLE),
    "planning": Look("●", "planning", RUN),
    "executing": Look("●", "running", RUN),
    "running": Look("●", "running", RUN),
    "retrying": Look("↻", "retrying", WAIT),
    "waiting_approval": Look("◆", "waiting for you", WAIT, dashed=True),
    "paused": Look("❚❚", "paused", WAIT, dashed=True),
    "completed": Look("✔", "completed", OK),
    "resolved": Look("✔", "answered", OK),
    "failed": Look("✕", "failed", FAIL),
    "timeout": Look("✕", "out of time", FAIL),
    "cancelled": Look("⊘", "cancelled", IDLE, dashed=True),
    "not_run": Look("○", "not run", IDLE, dashed=True),
    "skipped": Look("»", "skipped", IDLE, dashed=True),
    "interrupted": Look("↯", "interrupted", FAIL, dashed=True),
}


def look(status: str | None) -> Look:
    """Return the look of a status; one that is not known is shown as its own name.

    >>> look("completed").glyph, look("something_new").label
    ('✔', 'something new')
    """
    name = status or "pending"
    return LOOKS.get(name) or Look("○", name.replace("_", " "), IDLE)
