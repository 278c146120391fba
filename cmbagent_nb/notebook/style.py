"""The style sheet of the live view: the shared one, and what the widgets need on top."""

from __future__ import annotations

from cmbagent_nb.render.css import CSS

LIVE_CSS = (
    CSS
    + """
.cmb-live{overflow:visible;margin:4px 2px}
.cmb-live .cmb-frame{margin:0;gap:0}
.cmb-live .widget-html,.cmb-live .widget-html-content,.cmb-live .jupyter-widgets{margin:0}
.cmb-live .widget-html{height:auto;min-width:0}
.cmb-live .widget-html-content{font:inherit;color:inherit;line-height:1.45;overflow:visible;min-width:0;width:100%;align-self:stretch}
.cmb-live .cmb-none{display:none!important}
.cmb-top{display:flex;align-items:center;gap:10px;padding:8px 14px;overflow:hidden;border-bottom:1px solid var(--cmb-line)}
.cmb-top>.widget-html{flex:1 1 0;overflow:hidden}
.cmb-live button.jupyter-button{border:1px solid var(--cmb-line);background:var(--cmb-bg);color:var(--cmb-ink);border-radius:6px;
padding:3px 11px;font:12.5px/1.45 system-ui,sans-serif;height:auto;width:auto;min-width:0;margin:0;box-shadow:none}
.cmb-live button.jupyter-button:hover{background:var(--cmb-panel);box-shadow:none}
.cmb-live button.jupyter-button:focus-visible{outline:2px solid var(--cmb-run);outline-offset:1px}
.cmb-live button.jupyter-button:disabled{opacity:.5}
.cmb-live button.cmb-primary{background:var(--cmb-ok);border-color:var(--cmb-ok);color:#fff;font-weight:600}
.cmb-live button.cmb-primary:hover{background:color-mix(in srgb,var(--cmb-ok) 85%,#000)}
body[data-jp-theme-light='false'] .cmb-live button.cmb-primary{color:#06240f}
.cmb-gates{overflow:hidden}
.cmb-gate{background:var(--cmb-gate);border-left:4px solid var(--cmb-gateline);border-bottom:1px solid var(--cmb-line);
padding:11px 14px;gap:8px;overflow:hidden}
.cmb-gate .cmb-planbox{max-height:340px;overflow:auto}
.cmb-gate .cmb-answer{display:flex;flex-flow:row wrap;gap:8px;align-items:center;overflow:visible}
.cmb-gate .widget-text{flex:1 1 260px;width:auto;min-width:160px;height:auto;margin:0}
.cmb-gate .widget-text input{border:1px solid var(--cmb-line);background:var(--cmb-bg);color:var(--cmb-ink);border-radius:6px;
padding:4px 8px;font:13px/1.45 system-ui,sans-serif;height:30px}
.cmb-gate.cmb-needs .widget-text input{border-color:var(--cmb-fail);outline:1px solid var(--cmb-fail)}
.cmb-graphbox{padding:4px 8px;overflow:hidden;border-bottom:1px solid var(--cmb-line)}
.cmb-graphbox .custom-widget{background:transparent!important;resize:none!important;border:0!important;width:100%!important}
.cmb-graphbox .custom-widget:hover{border:0!important}
.cmb-graphbox svg{display:block}
.cmb-live .jupyter-widget-tab{margin:0;overflow:hidden}
.cmb-live .jupyter-widget-tab>.lm-TabBar{overflow:hidden;background:var(--cmb-panel);border-bottom:1px solid var(--cmb-line);padding:0 14px;min-height:0}
.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-content{flex-wrap:wrap;gap:0 18px;border:0;min-width:0}
.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-tab{flex:0 0 auto;min-width:0;min-height:0;max-height:none;height:auto;border:0;margin:0;padding:0;
background:none;color:var(--cmb-soft);line-height:1.45;transform:none;border-bottom:2px solid transparent}
.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-tab::before,.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-tab.lm-mod-current::before{display:none}
.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-tabLabel{padding:7px 0 6px;font:13px/1.45 system-ui,sans-serif}
.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-tab:hover{background:none;color:var(--cmb-ink)}
.cmb-live .jupyter-widget-tab>.lm-TabBar .lm-TabBar-tab.lm-mod-current{color:var(--cmb-ink);border-bottom-color:var(--cmb-run);font-weight:600;min-height:0}
.cmb-live .jupyter-widget-tab>.widget-tab-contents{border:0;padding:0;background:none;color:inherit;overflow:hidden}
.cmb-live .cmb-tab{padding:10px 14px;overflow:auto;max-height:440px}
.cmb-two{display:flex;flex-flow:row wrap;overflow:hidden;align-items:stretch}
.cmb-two>.cmb-events{flex:1 1 340px;min-width:0;max-height:300px;overflow:auto;padding:8px 14px;display:flex;flex-direction:column-reverse;justify-content:flex-end}
.cmb-two>.cmb-gantt{flex:1.5 1 400px;min-width:0;overflow:hidden;padding:0;border-left:1px solid var(--cmb-line);min-height:236px}
.cmb-gantt .jp-OutputArea-child,.cmb-gantt .jp-OutputArea,.cmb-gantt .jp-OutputArea-output{padding:0;margin:0;overflow:hidden;background:none}
.cmb-gantt .jp-OutputPrompt,.cmb-gantt .jp-OutputArea-promptOverlay{display:none}
.cmb-files{gap:4px}
.cmb-bottom{padding:6px 14px;border-top:1px solid var(--cmb-line)}
.cmb-bottom .widget-html-content{overflow:hidden}
"""
)

SAVED_CSS = """
.jp-OutputArea:has(.cmb-live) .jp-OutputArea-child:has(.cmb-saved){display:none}
.jp-OutputArea-child:has(+ .jp-OutputArea-child .cmb-saved):not(:has(.cmb-live)){display:none}
"""
