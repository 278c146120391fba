"""The parts that show skills, as HTML: the head of a card, the parameters, the executions.

They take plain mappings, with the names that JSON has: what a skill is made of is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmbagent_nb.render.css import css
from cmbagent_nb.render.status import look
from cmbagent_nb.render.text import cut, esc, plural, seconds

if TYPE_CHECKING:
    import pandas as pd

#: How a skill's status looks, in the words that runs have.
_LOOKS = {"active": "completed", "draft": "paused", "deprecated": "skipped"}
_LONG = 600


def skill_pill(about: Mapping[str, Any]) -> str:
    """Whether a skill is verified, in its frame, with its shape."""
    status = str(about["status"])
    shown = look(_LOOKS.get(status, status))
    word = "verified" if status == "active" and about.get("verified") else status
    return f'<span class="cmbv-pill cmbv-{shown.tone.name}">{esc(shown.glyph)} {esc(word)}</span>'


def skill_head(about: Mapping[str, Any]) -> str:
    """The head of a card: name, version, status, use, what it is for and what was verified."""
    used = int(about.get("usage_count") or 0)
    failed = int(about.get("failure_count") or 0)
    facts = [
        plural(used, "run") + (f" ({failed} failed)" if failed else "") if used else "not run yet",
        f"{seconds(about['avg_execution_time_s'])} on average" if about.get("avg_execution_time_s") else "",
        ", ".join(map(str, about.get("tags") or ())),
    ]
    warning = (
        ""
        if about.get("trusted", True)
        else '<div class="cmbv-error">This skill came from elsewhere. Read its code; it runs only after '
        f"<code>%cmbagent skill trust {esc(about['name'])}</code>.</div>"
    )
    return (
        f'<div class="cmbv-pad"><div class="cmbv-head"><span class="cmbv-name">{esc(about["name"])}</span> '
        f'<span class="cmbv-meta">v{esc(about["version"])}</span> {skill_pill(about)} '
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span></div>'
        f'<div class="cmbv-text">{esc(cut(about.get("description"), _LONG))}</div>'
        f'<div class="cmbv-meta">{esc(about.get("summary"))}</div>{warning}</div>'
    )


def parameter_table(about: Mapping[str, Any]) -> str:
    """The parameters with their types, defaults, units and meanings."""
    rows = "".join(
        f"<tr><td><code>{esc(item['name'])}</code></td><td>{esc(item['type'])}</td>"
        f"<td><code>{esc(cut(repr(item['default']), 60))}</code></td><td>{esc(item.get('unit'))}</td>"
        f"<td>{esc(item.get('help'))}</td></tr>"
        for item in about.get("parameters") or ()
    )
    head = "<tr><th>parameter</th><th>type</th><th>default</th><th>unit</th><th>meaning</th></tr>"
    return f'<table class="cmbv-t">{head}{rows}</table>' if rows else '<div class="cmbv-meta">no parameters</div>'


def skill_html(about: Mapping[str, Any]) -> str:
    """The static card of a skill: what a saved notebook shows."""
    body = skill_head(about) + f'<div class="cmbv-pad">{parameter_table(about)}</div>'
    return f'<style>{css()}</style><div class="cmbv"><div class="cmbv-frame cmbv-static">{body}</div></div>'


def skill_history(executions: pd.DataFrame, most: int) -> str:
    """The newest executions of a skill: how they ended, with which values, how long, and a few numbers."""
    if executions.empty:
        return ""
    newest = executions.iloc[::-1].head(most)
    rows = "".join(_execution({str(name): value for name, value in row.items()}) for row in newest.to_dict("records"))
    head = '<tr><th></th><th>when</th><th>values</th><th>numbers</th><th class="cmbv-n">time</th></tr>'
    more = len(executions) - len(newest)
    note = f'<div class="cmbv-meta">{more} before these</div>' if more > 0 else ""
    return (
        f"<details><summary>Runs of this version ({len(executions)})</summary>"
        f'<table class="cmbv-t">{head}{rows}</table>{note}</details>'
    )


def _execution(row: Mapping[str, Any]) -> str:
    shown = look(str(row["status"]))
    begun = row["started_at"]
    given = row["parameters"] if isinstance(row["parameters"], Mapping) else {}
    values = ", ".join(f"{name}={value!r}" for name, value in given.items())
    numbers = row["metrics"] if isinstance(row["metrics"], Mapping) else {}
    said = ", ".join(f"{name} {value:.5g}" for name, value in list(numbers.items())[:3])
    what = row["error"] if isinstance(row["error"], str) and row["error"] else said
    took = float(row["duration_s"] or "nan")
    return (
        f'<tr><td><span class="cmbv-{shown.tone.name}" title="{esc(shown.label)}">{esc(shown.glyph)}</span></td>'
        f'<td class="cmbv-w">{esc(begun.strftime("%m-%d %H:%M"))}</td><td>{esc(cut(values or "defaults", 120))}</td>'
        f'<td>{esc(cut(what, 160))}</td><td class="cmbv-n">{esc("" if math.isnan(took) else seconds(took))}</td></tr>'
    )


def skill_row(about: Mapping[str, Any]) -> str:
    """A skill in a line of a list: version, status, use, tags and what it is for; its name stands before it."""
    used, failed = int(about.get("usage_count") or 0), int(about.get("failure_count") or 0)
    use = f"{used - failed} of {plural(used, 'run')} succeeded" if used else "not run yet"
    origin = "" if about.get("trusted", True) else "not trusted"
    facts = [f"v{about['version']}", use, ", ".join(map(str, about.get("tags") or ())), origin]
    return (
        f"{skill_pill({**about, 'verified': True})} "
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span>'
        f"<div>{esc(cut(about.get('description'), 160))}</div>"
    )


def match_row(match: Mapping[str, Any]) -> str:
    """A skill that fits a task: how well, and why; its name stands before it."""
    return (
        f'<b>{round(100 * float(match["score"]))} % match</b> <span class="cmbv-meta">v{esc(match["version"])} · '
        f"{esc(', '.join(map(str, match.get('tags') or ())))}</span><div>{esc(cut(match.get('reason'), 300))}</div>"
    )


def skill_list(rows: Sequence[Mapping[str, Any]]) -> str:
    """The static list of a library: what a saved notebook shows."""
    lines = "".join(f"<tr><td><code>{esc(row['name'])}</code></td><td>{skill_row(row)}</td></tr>" for row in rows)
    body = f'<table class="cmbv-t">{lines}</table>' if lines else '<div class="cmbv-meta">no skills yet</div>'
    return (
        f'<style>{css()}</style><div class="cmbv"><div class="cmbv-frame cmbv-static">'
        f'<div class="cmbv-pad">{body}</div></div></div>'
    )
