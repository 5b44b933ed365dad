/// <reference lib="dom" />
/** What every page's script needs: its data, the colours of the present scheme, and when to draw anew. */

/** The JSON that the page holds in the script element of that id. */
export function pageData<T>(id: string): T {
  return JSON.parse(document.getElementById(id)?.textContent ?? 'null') as T;
}

const SCHEME_KEY = 'sluice-scheme';

/** Undefined: as the system has it. */
type Scheme = 'dark' | 'light' | undefined;

function chosenScheme(): Scheme {
  return document.documentElement.dataset.theme as Scheme;
}

export function isDark(): boolean {
  return (
    (chosenScheme() ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark'
  );
}

/** Colours that were asked for in the present scheme: in a long page each question may lay it out anew. */
const knownColors = new Map<string, string>();

/** The value of a colour for the present scheme, dark or light. */
export function color(name: string): string {
  const known = knownColors.get(name);
  if (known !== undefined) return known;
  // The variable itself may hold both schemes' colours; that of an element is one of them.
  const probe = document.createElement('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  knownColors.set(name, value);
  return value;
}

/** Draws now, and whenever the colours or the width change; for paper in the colours of the light scheme, as all else is there. */
export function keepDrawn(draw: () => void): void {
  draw();
  const recolor = () => {
    knownColors.clear();
    draw();
  };
  let backToScreen: (() => void) | undefined;
  addEventListener('beforeprint', () => {
    if (!isDark()) return;
    const { dataset } = document.documentElement;
    const { theme } = dataset;
    backToScreen = () => {
      if (theme === undefined) delete dataset.theme;
      else dataset.theme = theme;
    };
    dataset.theme = 'light';
    recolor();
  });
  addEventListener('afterprint', () => {
    if (!backToScreen) return;
    backToScreen();
    backToScreen = undefined;
    recolor();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolor);
  addEventListener('sluice-scheme', recolor);
  let lastWidth = document.body.clientWidth;
  let resizing: number | undefined;
  addEventListener('resize', () => {
    if (document.body.clientWidth === lastWidth) return;
    lastWidth = document.body.clientWidth;
    clearTimeout(resizing);
    resizing = setTimeout(draw, 120) as unknown as number;
  });
}

/** A button that goes from the system's scheme to the other one, and back. It is remembered where the browser allows it. */
export function addSchemeSwitch(place: Element | null): void {
  choose(remembered());
  if (!place) return;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'scheme';
  const label = () => {
    const other = isDark() ? 'light' : 'dark';
    button.textContent = isDark() ? '☀' : '☾';
    button.title = `Show the page ${other} (key d)`;
    button.setAttribute('aria-label', button.title);
  };
  const toggle = () => {
    choose(isDark() ? 'light' : 'dark');
    label();
    dispatchEvent(new Event('sluice-scheme'));
  };
  button.addEventListener('click', toggle);
  addEventListener('keydown', (event) => {
    const { target } = event;
    const isTyping = target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
    if (event.key === 'd' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) toggle();
  });
  label();
  place.append(button);
}

function remembered(): Scheme {
  try {
    return (localStorage.getItem(SCHEME_KEY) as Scheme) ?? undefined;
  } catch {
    return undefined;
  }
}

function choose(scheme: Scheme): void {
  if (scheme === undefined) return;
  document.documentElement.dataset.theme = scheme;
  try {
    localStorage.setItem(SCHEME_KEY, scheme);
  } catch {
    // It holds for this visit.
  }
}
