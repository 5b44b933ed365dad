/// <reference lib="dom" />
/** What every page's script needs: its data, the colours of the present scheme, and when to draw anew. */

/** The JSON that the page holds in the script element of that id. */
export function pageData<T>(id: string): T {
  return JSON.parse(document.getElementById(id)?.textContent ?? 'null') as T;
}

export function isDark(): boolean {
  return matchMedia('(prefers-color-scheme: dark)').matches;
}

/** Colours that were asked for in the present scheme: in a long page each question may lay it out anew. */
const knownColors = new Map<string, string>();

/** The value of a colour for the present scheme, dark or light. */
export function color(name: string): string {
  const known = knownColors.get(name);
  if (known !== undefined) return known;
  const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  knownColors.set(name, value);
  return value;
}

/** Draws now, and whenever the colours or the width change. */
export function keepDrawn(draw: () => void): void {
  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    knownColors.clear();
    draw();
  });
  let lastWidth = document.body.clientWidth;
  let resizing: number | undefined;
  addEventListener('resize', () => {
    if (document.body.clientWidth === lastWidth) return;
    lastWidth = document.body.clientWidth;
    clearTimeout(resizing);
    resizing = setTimeout(draw, 120) as unknown as number;
  });
}
