/**
 * Elements made from tag, class and text. Text only ever goes in as text, so that nothing
 * that a model or a file name says becomes markup.
 */

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  text = '',
  children: Node[] = []
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  node.className = className;
  if (text) {
    node.textContent = text;
  }
  node.append(...children);
  return node;
}

/** Set the text only when it differs, so that a selection or a screen reader is not disturbed. */
export function setText(node: HTMLElement, text: string): void {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

/** Bring the children of `parent` into this order, moving only what is out of place. */
export function arrange(parent: HTMLElement, children: HTMLElement[]): void {
  children.forEach((child, index) => {
    if (parent.children[index] !== child) {
      parent.insertBefore(child, parent.children[index] ?? null);
    }
  });
  while (parent.children.length > children.length) {
    parent.lastElementChild!.remove();
  }
}

/** `42 s`, `3:07`, `1:02:45`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return `${whole} s`;
  }
  const two = (value: number) => String(value).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  const rest = two(whole % 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}

/** `just now`, `5 min ago`, `3 h ago`, then the date. */
export function ago(seconds: number): string {
  const passed = Date.now() / 1000 - seconds;
  if (passed < 60) {
    return 'just now';
  }
  if (passed < 3600) {
    return `${Math.floor(passed / 60)} min ago`;
  }
  if (passed < 86400) {
    return `${Math.floor(passed / 3600)} h ago`;
  }
  return new Date(seconds * 1000).toLocaleDateString();
}
