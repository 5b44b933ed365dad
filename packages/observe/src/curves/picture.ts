/** The picture of a recorded curve with its spikes, as SVG for light and dark pages. */

import { counted, groupDigits } from '../format.ts';
import { selectExtremes } from '../report/downsample.ts';
import { escapeHtml } from '../report/elements.ts';

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [960, 360, 56, 14, 44, 34];
const POINTS = 1800;
/** The fall at the beginning would flatten all the rest: so much of it may leave the picture at the top. */
const BEGINNING = 0.01;
const TICKS = 6;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #59636e; }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  .grid { stroke: #e4e8ed; } .curve { fill: none; stroke: #2459b8; stroke-width: 1.2; stroke-linejoin: round; }
  .spike { fill: #cf3341; } .band { fill: #cf3341; fill-opacity: 0.16; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; } .title { fill: #e6edf3; } .grid { stroke: #2d333b; }
    .curve { stroke: #7fb0ff; } .spike { fill: #ff7580; } .band { fill: #ff7580; }
  }`;

/** A curve as it is drawn. */
export interface DrawnCurve {
  /** Ascending, one at least. */
  readonly steps: readonly number[];
  /** One for each step; may be infinite or not a number. */
  readonly losses: readonly number[];
  readonly lossName: string;
}

interface Span {
  readonly start: number;
  readonly end: number;
  readonly peak: number;
}

/** The loss over the steps; each episode is a band with a mark at the top, however narrow it is. */
export function curvePicture({ steps, losses, lossName }: DrawnCurve, episodes: readonly Span[]): string {
  const chosen = selectExtremes(losses, POINTS).map((i) => ({ step: steps[i]!, loss: losses[i]! }));
  const drawn = chosen.filter(({ loss }) => Number.isFinite(loss));
  const [first, last] = [steps[0]!, steps.at(-1)!];
  const settled = drawn.filter(({ step }) => step >= first + BEGINNING * (last - first));
  const heights = (settled.length > 1 ? settled : drawn).map(({ loss }) => loss);
  const [low, high] = [Math.min(...heights), Math.max(...heights)];
  const margin = 0.05 * (high - low || 1);
  const x = scaleOf([first, last], [LEFT, WIDTH - RIGHT]);
  const y = scaleOf([low - margin, high + margin], [HEIGHT - BOTTOM, TOP]);
  const line = drawn.map(({ step, loss }) => `${x(step)},${Math.max(y(loss), -HEIGHT)}`).join(' ');
  const rows = ticksOf(low - margin, high + margin).map(
    (tick) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(tick)}" y2="${y(tick)}"/><text class="end" x="${LEFT - 8}" y="${y(tick) + 4}">${tick}</text>`,
  );
  const labels = ticksOf(first, last).map(
    (tick) => `<text class="middle" x="${x(tick)}" y="${HEIGHT - BOTTOM + 20}">${groupDigits(tick)}</text>`,
  );
  const bands = episodes.map(({ start, end, peak }) => {
    const left = Math.min(x(start), x(peak) - 1);
    const place = `x="${left}" y="${TOP}" width="${round(Math.max(2, x(end) - left))}"`;
    return `<g><title>steps ${groupDigits(start)} to ${groupDigits(end)}</title><rect class="band" ${place} height="${HEIGHT - TOP - BOTTOM}"/><rect class="spike" ${place} height="5"/></g>`;
  });
  const title = `${lossName}: ${counted(episodes.length, 'spike')} in ${counted(steps.length, 'point')}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">
<style>${STYLE}</style>
<clipPath id="plot"><rect x="${LEFT}" y="${TOP}" width="${WIDTH - LEFT - RIGHT}" height="${HEIGHT - TOP - BOTTOM}"/></clipPath>
<text class="title" x="10" y="26">${escapeHtml(title)}</text>
${rows.join('')}
${labels.join('')}
${bands.join('\n')}
<polyline class="curve" clip-path="url(#plot)" points="${line}"/>
</svg>
`;
}

function scaleOf([from, to]: [number, number], [start, end]: [number, number]): (value: number) => number {
  return (value) => round(start + ((value - from) / (to - from || 1)) * (end - start));
}

/** Round numbers within a range. */
function ticksOf(low: number, high: number): number[] {
  const rough = (high - low || 1) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const distance = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough)!;
  const first = Math.ceil(low / distance);
  const count = Math.floor(high / distance) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * distance).toPrecision(6)));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
