/** Numbers as people read them. Whatever is not finite is a dash. */

const ABSENT = '–';

/** Grouped digits below 10,000, three significant digits and k, M, B or T above: `9,876`, `12.3 k`, `7.06 M`. */
export function formatCount(value: number): string {
  if (!Number.isFinite(value)) return ABSENT;
  const magnitude = Math.abs(value);
  if (magnitude < 9999.5) return groupDigits(Math.round(value));
  return withUnit(value, 1000, ['', 'k', 'M', 'B', 'T']);
}

/** Whole numbers with groups of three: `1,234,567`. */
export function groupDigits(value: number): string {
  return Number.isFinite(value) ? value.toLocaleString('en-US', { maximumFractionDigits: 0 }) : ABSENT;
}

/** How many there are of something: `1 step`, `1,200 steps`. */
export function counted(count: number, noun: string): string {
  return `${groupDigits(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** Bytes in binary units: `812 MiB`, `1.50 GiB`. */
export function formatBytes(bytes: number): string {
  return Number.isFinite(bytes) ? withUnit(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']) : ABSENT;
}

function withUnit(value: number, base: number, units: readonly string[]): string {
  let scaled = value;
  let unit = 0;
  // By the rounded number: there is no 1000 k or 1024 MiB.
  while (unit < units.length - 1 && Math.round(Math.abs(scaled)) >= base) {
    scaled /= base;
    unit++;
  }
  const digits = Math.abs(scaled) >= 1000 ? scaled.toFixed(0) : scaled.toPrecision(3);
  const text = unit === 0 ? String(Math.round(scaled)) : digits;
  return units[unit] === '' ? text : `${text} ${units[unit]}`;
}

/** A duration for what is drawn time and again, begun seconds as whole ones: milliseconds would flicker. */
export function formatWholeSeconds(seconds: number): string {
  return formatDuration(Math.ceil(seconds));
}

/** Seconds as a duration of at most two units, of which none but that of nothing is zero: `350 ms`, `9 s`, `1m 05s`, `2h 07m`, `3d 04h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return ABSENT;
  if (seconds < 1) return formatSeconds(seconds);
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
}

/** A loss in nats with four decimals. */
export function formatLoss(nats: number): string {
  return Number.isFinite(nats) ? nats.toFixed(4) : ABSENT;
}

/** A learning rate or another small number with three significant digits: `1.86e-3`. */
export function formatRate(value: number): string {
  if (!Number.isFinite(value)) return ABSENT;
  return value === 0 ? '0' : value.toExponential(2);
}

/** A number of ordinary size with two or three significant digits: `0.52`, `13.4`, `1.2e+5`. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return ABSENT;
  const magnitude = Math.abs(value);
  if (magnitude >= 10000 || (magnitude > 0 && magnitude < 0.001)) return value.toExponential(1);
  return magnitude >= 100 ? value.toFixed(0) : magnitude >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A time of less than a minute or so, with three digits: `120 µs`, `14.9 ms`, `1.24 s`. A long one is a duration. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return ABSENT;
  if (seconds === 0) return '0 s';
  // By the rounded number: there is no 1000 µs or ms.
  const rounded = Number(seconds.toPrecision(3));
  if (rounded < 1e-3) return `${(1e6 * seconds).toPrecision(3)} µs`;
  if (rounded < 1) return `${(1000 * seconds).toPrecision(3)} ms`;
  return rounded < 1000 ? `${formatNumber(seconds)} s` : formatDuration(seconds);
}

/** A distance in robust deviations; beyond what is worth telling apart it is a bound: `7.3`, `> 999`. */
export function formatDeviations(deviations: number): string {
  return deviations > 999 ? '> 999' : formatNumber(deviations);
}

/** A text on one line, and without anything that a terminal would obey. */
export function onOneLine(text: string): string {
  return text.replaceAll(/[\s\p{Cc}\p{Cf}]+/gu, ' ');
}
