"""A tiny invisible widget that tells Python about the page, its theme, and that a view was drawn; and that copies code.

The graph is drawn on a canvas, which knows nothing of style sheets; it needs the colours,
and has to fit itself again when its place appears (a page reload too) or changes its width.
"""

from __future__ import annotations

import anywidget
import traitlets

_SCRIPT = """
export default {
  render({ model, el }) {
    el.style.display = "none";
    const body = document.body;
    const dark = () => body.dataset.jpThemeLight === "false" || body.classList.contains("vscode-dark");
    const tell = (values) => {
      let changed = false;
      for (const [name, value] of Object.entries(values))
        if (model.get(name) !== value) { model.set(name, value); changed = true; }
      if (changed) model.save_changes();
    };
    tell({ theme: dark() ? "dark" : "light", drawn: Date.now() });
    const theme = new MutationObserver(() => tell({ theme: dark() ? "dark" : "light" }));
    theme.observe(body, { attributes: true });
    const copy = async (event) => {
      const button = event.target.closest?.("[data-cmbv-copy]");
      if (!button) return;
      const code = button.closest(".cmbv-codebox").querySelector("pre");
      let done = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    };
    let wait = 0;
    const place = new ResizeObserver((entries) => {
      const width = Math.round(entries[0].contentRect.width);
      clearTimeout(wait);
      if (width > 0) wait = setTimeout(() => tell({ width }), 150);
    });
    const watch = setInterval(() => {
      const frame = el.closest(".cmbv-live")?.querySelector(".cmbv-frame");
      if (!frame) return;
      clearInterval(watch);
      place.observe(frame);
      frame.addEventListener("click", copy);
      frame.dataset.cmbvHears = "yes";
    }, 50);
    return () => { theme.disconnect(); place.disconnect(); clearInterval(watch); clearTimeout(wait); };
  },
};
"""


class Page(anywidget.AnyWidget):
    """The page as the front end sees it; empty until a front end has drawn the view."""

    _esm = _SCRIPT
    theme = traitlets.Unicode("").tag(sync=True)
    width = traitlets.Int(0).tag(sync=True)
    drawn = traitlets.Float(0.0).tag(sync=True)
