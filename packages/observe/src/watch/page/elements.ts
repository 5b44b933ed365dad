/// <reference lib="dom" />
/** Elements of the live page, made of text only, and the numbers in them. */

type Attributes = Readonly<Record<string, string | number | boolean | undefined | ((event: Event) => void)>>;

/** An element; attributes that are functions listen to the event of that name. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: readonly (Node | string | undefined)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== undefined && value !== false) element.setAttribute(key, String(value));
  }
  for (const child of children) if (child !== undefined) element.append(child);
  return element;
}

const ABSENT_TEXT = '–';

export function fixedText(value: number | null, digits: number): string {
  return value === null ? ABSENT_TEXT : value.toFixed(digits);
}

export function countText(value: number | null): string {
  if (value === null) return ABSENT_TEXT;
  if (Math.abs(value) < 10_000) return Math.round(value).toLocaleString('en-US');
  const units = ['k', 'M', 'B', 'T'];
  let scaled = value / 1000;
  let unit = 0;
  for (; Math.abs(scaled) >= 999.5 && unit < units.length - 1; unit++) scaled /= 1000;
  return `${scaled.toPrecision(3)} ${units[unit]}`;
}

export function durationText(seconds: number | null): string {
  if (seconds === null || seconds < 0) return '';
  const minutes = Math.round(seconds / 60);
  if (seconds > 0 && seconds < 1) return '< 1 s';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} d`;
}

/** Of ISO 8601, in this place's time. */
export function clockText(time: string | null): string {
  if (time === null) return '';
  return new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'medium' }).format(
    Date.parse(time),
  );
}
