"""The style sheet of everything that shows a run: the live view and the static one.

Colours come from JupyterLab's own variables, so that both themes are followed without being
asked; outside of JupyterLab the page's colours and the reader's preference are taken.
"""

from __future__ import annotations

from cmbagent_nb.render.status import TONES

_LIGHT = "".join(f"--cmb-{tone.name}:{tone.light};" for tone in TONES) + "--cmb-gate:#fff7e6;--cmb-gateline:#f0b429;"
_DARK = "".join(f"--cmb-{tone.name}:{tone.dark};" for tone in TONES) + "--cmb-gate:#2a2210;--cmb-gateline:#a16207;"

CSS = (
    ".cmb{--cmb-ink:var(--jp-ui-font-color1,currentColor);"
    "--cmb-soft:var(--jp-ui-font-color2,color-mix(in srgb,currentColor 68%,transparent));"
    "--cmb-line:var(--jp-border-color2,color-mix(in srgb,currentColor 20%,transparent));"
    "--cmb-bg:var(--jp-layout-color1,transparent);"
    "--cmb-panel:color-mix(in srgb,var(--cmb-ink) 4%,var(--cmb-bg));"
    f"{_LIGHT}"
    "--cmb-mono:ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace;"
    "font:13px/1.45 system-ui,-apple-system,'Segoe UI',sans-serif;color:var(--cmb-ink)}"
    f"body[data-jp-theme-light='false'] .cmb,body.vscode-dark .cmb{{{_DARK}}}"
    "@media (prefers-color-scheme:dark){body:not([data-jp-theme-light]):not(.vscode-light) .cmb{"
    f"{_DARK}}}}}"
    """
.cmb-frame{border:1px solid var(--cmb-line);border-radius:8px;overflow:hidden;max-width:1040px;background:var(--cmb-bg)}
.cmb b,.cmb strong{font-weight:600}
.cmb code,.cmb pre{font-family:var(--cmb-mono);font-size:12px;background:none;color:inherit;border:0;padding:0;margin:0}
.cmb pre{white-space:pre-wrap;overflow-wrap:anywhere;max-height:320px;overflow:auto;background:var(--cmb-panel);
border:1px solid var(--cmb-line);border-radius:6px;padding:8px 10px;margin:4px 0}
.cmb-head{display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px;min-width:0}
.cmb-name{font-size:14px;font-weight:600;overflow-wrap:anywhere}
.cmb-pill{display:inline-flex;align-items:center;gap:6px;border-radius:99px;padding:1px 10px;font-size:12px;
border:1px solid currentColor;white-space:nowrap}
.cmb-meta{color:var(--cmb-soft);font-size:12px;font-variant-numeric:tabular-nums}
.cmb-error{color:var(--cmb-fail);font-size:12px;overflow-wrap:anywhere}
.cmb-sp{flex:1 1 0}
.cmb-ok{color:var(--cmb-ok)}.cmb-run{color:var(--cmb-run)}.cmb-wait{color:var(--cmb-wait)}
.cmb-fail{color:var(--cmb-fail)}.cmb-idle{color:var(--cmb-idle)}
.cmb table.cmb-t{border-collapse:collapse;border:0;width:100%;font-size:12.5px;margin:6px 0;table-layout:auto;color:inherit}
.cmb table.cmb-t th,.cmb table.cmb-t td{text-align:left;vertical-align:top;padding:3px 10px 3px 0;border:0;
border-bottom:1px solid var(--cmb-line);background:none;max-width:none;white-space:normal;overflow-wrap:anywhere}
.cmb table.cmb-t tr{background:none}
.cmb table.cmb-t th{color:var(--cmb-soft);font-weight:500;font-size:12px;overflow-wrap:normal}
.cmb table.cmb-t .cmb-n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.cmb table.cmb-t .cmb-w{white-space:nowrap}
.cmb-q{font-weight:600;font-size:13.5px}
.cmb-ev{display:grid;grid-template-columns:14px minmax(0,1fr) auto 52px;gap:7px;padding:2px 0;align-items:center;white-space:nowrap}
.cmb-ev>*{overflow:hidden;text-overflow:ellipsis}
.cmb-ev .cmb-v{color:var(--cmb-soft);text-align:right;font-size:12px;font-variant-numeric:tabular-nums}
.cmb-msg{border-bottom:1px solid var(--cmb-line);padding:6px 0}
.cmb-msg:last-child{border-bottom:0}
.cmb-text{white-space:pre-wrap;overflow-wrap:anywhere;max-height:220px;overflow:auto}
.cmb details{margin:2px 0}
.cmb summary{cursor:pointer}
.cmb img{max-width:100%;max-height:420px;background:#fff;border-radius:4px;display:block}
.cmb h4{margin:10px 0 2px;font-size:13px;font-weight:600}
.cmb-pad{padding:10px 14px}
.cmb-static>*+*{border-top:1px solid var(--cmb-line)}
.cmb-foot{display:flex;flex-wrap:wrap;gap:2px 14px;color:var(--cmb-soft);font-size:12px}
.cmb-foot code{color:inherit}
"""
)
