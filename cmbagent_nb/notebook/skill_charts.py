"""Draws charts of the skill library: use, success, time saved, cost, adaptations and near-duplicates.

Figures are plain data in plotly's own form, shown by their mimetype beside a table, which is what a reader
without plotly shows; in the colours that read on both themes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cmbagent_nb.notebook.timeline import MIMETYPE
from cmbagent_nb.render.css import css
from cmbagent_nb.render.status import FAIL, OK, RUN, WAIT
from cmbagent_nb.render.text import esc

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.learning.analytics import SkillAnalytics

_INK, _LINE = "#808790", "rgba(128,135,144,0.3)"
#: Days of the trend, and skills of a ranking.
DAYS, MOST = 30, 10


def show_analytics(analytics: SkillAnalytics) -> None:
    """Display the charts below one another in the running cell."""
    import IPython.display

    page: Any = IPython.display
    for title, figure, table in charts(analytics):
        html = f"<b>{esc(title)}</b>{_table(table)}"
        bundle = {"text/html": html, "text/plain": f"{title}\n{table.to_string(index=False)}"}
        page.display({**bundle, MIMETYPE: figure} if figure else bundle, raw=True)


def charts(analytics: SkillAnalytics, days: int = DAYS) -> list[tuple[str, dict[str, Any] | None, pd.DataFrame]]:
    """Return what there is to show: the title, plotly's figure if there is one, and the table behind it."""
    top = analytics.top(limit=MOST)
    if top.empty:
        return [("No skill has been run yet.", None, top[["name"]])]
    usage = analytics.usage(days)
    cost = analytics.cost()
    heat = analytics.adaptations()
    alike = analytics.consolidation()
    found: list[tuple[str, dict[str, Any] | None, pd.DataFrame]] = [
        ("Most used", top_figure(top), top[["name", "executions", "successes", "failures", "success_rate"]]),
        (f"Executions of the last {days} days", usage_figure(usage), usage[usage["executions"] > 0]),
    ]
    known = cost[cost["source_duration_s"].notna()]
    if not known.empty:
        times = known[["name", "mean_s", "source_duration_s", "saved_s"]]
        found.append(("Time saved by skills", saved_figure(known), times))
        found.append(("Cost saved by skills", None, known[["name", "cost_usd", "source_cost_usd", "saved_usd"]]))
    if heat.to_numpy().any():
        found.append(("What the agents had to change", heat_figure(heat), heat.reset_index()))
    if not alike.empty:
        found.append(("Near-duplicates", None, alike))
    return found


def top_figure(top: pd.DataFrame) -> dict[str, Any]:
    """A bar a skill: its executions that succeeded and that failed, the most used on top."""
    rows = top.iloc[::-1]
    names = [esc(name) for name in rows["name"]]
    bars = [
        _bar(names, rows["successes"].tolist(), "succeeded", OK.ink, across=True),
        _bar(names, rows["failures"].tolist(), "failed", FAIL.ink, across=True),
    ]
    figure = _figure("Most used", bars, height=110 + 26 * len(names), barmode="stack")
    figure["layout"]["xaxis"]["dtick"] = _whole(rows["executions"].max())
    return figure


def usage_figure(usage: pd.DataFrame) -> dict[str, Any]:
    """A bar a day: executions that succeeded and that failed, and how many needed agents."""
    days = [f"{day:%Y-%m-%d}" for day in usage["day"]]
    adapted = {
        "type": "scatter", "mode": "lines", "name": "adapted", "x": days, "y": usage["adapted"].tolist(),
        "line": {"color": WAIT.ink, "width": 2},
    }  # fmt: skip
    bars = [
        _bar(days, usage["successes"].tolist(), "succeeded", OK.ink),
        _bar(days, usage["failures"].tolist(), "failed", FAIL.ink),
        adapted,
    ]
    figure = _figure(f"Executions of the last {len(days)} days", bars, height=240, barmode="stack")
    figure["layout"]["yaxis"]["dtick"] = _whole(usage["executions"].max())
    return figure


def saved_figure(cost: pd.DataFrame) -> dict[str, Any]:
    """Two bars a skill: an execution of it, and the run that it was made of."""
    known = cost.sort_values("saved_s").tail(MOST)
    names = [esc(name) for name in known["name"]]
    bars = [
        _bar(names, known["mean_s"].round(2).tolist(), "as a skill", OK.ink, across=True),
        _bar(names, known["source_duration_s"].round(2).tolist(), "the run it came from", RUN.ink, across=True),
    ]
    figure = _figure("Time saved by skills", bars, height=110 + 40 * len(names), barmode="group")
    figure["layout"]["xaxis"]["ticksuffix"] = " s"
    return figure


def heat_figure(heat: pd.DataFrame) -> dict[str, Any]:
    """A square a skill and kind of change, the darker the more often."""
    names, kinds = [esc(name) for name in heat.index], [esc(kind) for kind in heat.columns]
    counts = heat.to_numpy().tolist()
    square = {
        "type": "heatmap", "x": kinds, "y": names, "z": counts, "text": counts, "texttemplate": "%{text}",
        "colorscale": [[0, "rgba(128,135,144,0.12)"], [1, WAIT.ink]], "showscale": False, "xgap": 2, "ygap": 2,
    }  # fmt: skip
    return _figure("What the agents had to change", [square], height=110 + 30 * len(names))


def _whole(most: float) -> int:
    """Return a step of whole numbers for an axis."""
    return max(1, math.ceil(most / 6))


def _bar(names: list[str], values: list[Any], what: str, colour: str, *, across: bool = False) -> dict[str, Any]:
    one = {"type": "bar", "name": what, "marker": {"color": colour}}
    return {**one, "orientation": "h", "x": values, "y": names} if across else {**one, "x": names, "y": values}


def _figure(title: str, data: list[dict[str, Any]], *, height: int, **layout: Any) -> dict[str, Any]:
    axis = {"gridcolor": _LINE, "zeroline": False, "automargin": True, "fixedrange": True}
    return {
        "data": data,
        "layout": {
            "title": {"text": title, "font": {"size": 13}, "x": 0, "xref": "paper"},
            "height": height,
            "autosize": True,
            "margin": {"l": 12, "r": 16, "t": 40, "b": 30},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 11, "color": _INK},
            "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
            "dragmode": False,
            "xaxis": dict(axis),
            "yaxis": {**axis, "showgrid": len(data) > 2},
            **layout,
        },
        "config": {"displayModeBar": False, "responsive": True},
    }


def _table(table: pd.DataFrame) -> str:
    shown = table.to_html(escape=True, index=False, na_rep="", border=0, classes="cmbv-t", float_format="{:.4g}".format)
    return f'<style>{css()}</style><div class="cmbv">{shown}</div>'
