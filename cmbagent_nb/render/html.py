"""The static page of a run: what a saved notebook, an export or a report shows.

No script, no request, everything escaped. Where a reader strips the style sheet, plain tables
stay.
"""

from __future__ import annotations

from cmbagent_nb.ids import short
from cmbagent_nb.render import parts
from cmbagent_nb.render.css import css
from cmbagent_nb.render.gate import gate_html, shown
from cmbagent_nb.render.svg import graph_svg
from cmbagent_nb.render.text import esc
from cmbagent_nb.store.snapshot import Snapshot

_MOST_FILES = 40


def run_html(snapshot: Snapshot, *, report: bool = False, place: str = "") -> str:
    """Show a run as it stands: status line, graph, open gates, errors, files and costs.

    Parameters
    ----------
    snapshot
        The state of the run.
    report
        Also show the result, as rendered Markdown with the run's own pictures.
    place
        Where the run is recorded, for the last line.
    """
    run = snapshot.run
    sections = [parts.status_line(snapshot), graph_svg(snapshot), *map(_gate, snapshot.gates)]
    if not snapshot.finished:
        sections.append(_commands(str(run.get("name") or short(str(run["id"])))))
    if report:
        sections.append(parts.result(snapshot))
    if snapshot.files:
        shown = snapshot.files[:_MOST_FILES]
        total = int(run.get("n_files") or len(snapshot.files))
        more = f'<div class="cmbv-meta">{total - len(shown)} more: <code>run.files()</code></div>'
        sections.append(
            f"<details><summary>Files ({total})</summary>{parts.file_table(shown)}"
            f"{more if total > len(shown) else ''}</details>"
        )
    if snapshot.costs:
        sections.append(f"<details><summary>Cost</summary>{parts.cost_table(snapshot)}</details>")
    sections.append(parts.footer(snapshot, place=place))
    body = "".join(f'<div class="cmbv-pad">{section}</div>' for section in sections if section)
    return f'<style>{css()}</style><div class="cmbv"><div class="cmbv-frame cmbv-static">{body}</div></div>'


def _gate(gate: dict[str, object]) -> str:
    context = gate.get("context")
    context = context if isinstance(context, dict) else {}
    name = short(str(gate["id"]))
    options = [str(option.get("id")) for option in context.get("options") or () if isinstance(option, dict)]
    commands = "<br>".join(f"<code>{esc(_command(option, name))}</code>" for option in options)
    return f"{gate_html(shown(gate))}{commands}"


def _command(option: str, name: str) -> str:
    known = {"approved": f"approve {name}", "rejected": f"reject {name}"}
    return f"%cmbagent {known.get(option) or f'approve {name} --choose {option}'}"


def _commands(reference: str) -> str:
    name = esc(reference)
    return (
        '<div class="cmbv-meta">As it was when this was saved. '
        f"<code>%cmbagent show {name}</code> shows it as it is now, <code>%cmbagent approvals</code> lists what waits "
        f"for you, <code>%cmbagent cancel {name}</code> stops it.</div>"
    )
