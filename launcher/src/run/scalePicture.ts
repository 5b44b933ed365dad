/** The picture of a run at scale: its step and its exposed communication by size, and goodput by the interval between checkpoints. */

import type { IntervalTrial } from '@sluice/train';
import type { SimulatedSize } from './simulateScale.ts';

const [WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM, GAP] = [960, 250, 74, 20, 66, 46, 26];

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #59636e; }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  .grid { stroke: #e4e8ed; } polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .flat { stroke: #cf3341; } .hierarchical { stroke: #2459b8; } .compute { stroke: #8a94a0; stroke-dasharray: 6 4; } .goodput { stroke: #1a7f37; }
  circle { stroke: none; } circle.flat { fill: #cf3341; } circle.hierarchical { fill: #2459b8; } circle.compute { fill: #8a94a0; } circle.goodput { fill: #1a7f37; }
  .mark { stroke: #c77f1a; stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; } .title { fill: #e6edf3; } .grid { stroke: #2d333b; }
    .flat { stroke: #ff7580; } .hierarchical { stroke: #7fb0ff; } .compute { stroke: #768390; } .goodput { stroke: #57ab5a; }
    circle.flat { fill: #ff7580; } circle.hierarchical { fill: #7fb0ff; } circle.compute { fill: #768390; } circle.goodput { fill: #57ab5a; }
  }`;

type Line = 'flat' | 'hierarchical' | 'compute' | 'goodput';

interface Panel {
  readonly title: string;
  readonly axis: string;
  /** Values of the horizontal axis, which is logarithmic, and their labels. */
  readonly xs: readonly number[];
  readonly label: (x: number) => string;
  readonly lines: readonly { readonly kind: Line; readonly name: string; readonly ys: readonly number[] }[];
  /** Least and largest of the vertical axis. */
  readonly range: readonly [number, number];
  readonly tick: (y: number) => string;
  readonly mark?: { readonly x: number; readonly text: string };
}

export function scalePicture(
  { config, device }: SimulatedSize,
  sizes: readonly SimulatedSize[],
  trials: readonly IntervalTrial[],
  intervalSeconds: number,
): string {
  const devices = sizes.map((size) => size.devices);
  const kinds = ['flat', 'hierarchical'] as const;
  const totals = sizes.flatMap(({ steps }) => kinds.map((kind) => steps[kind].total));
  const shares = kinds.map((kind) => ({
    ...{ kind, name: kind },
    ys: sizes.map(({ steps }) => (100 * steps[kind].communicate) / steps[kind].total),
  }));
  const goodputs = trials.map(({ goodput }) => 100 * goodput);
  const floor = Math.floor(Math.min(...goodputs) / 10) * 10;
  const last = sizes.at(-1)!.devices;
  const panels: Panel[] = [
    {
      ...{ title: 'time of a step, s', axis: 'devices', xs: devices, label: String },
      lines: [
        { kind: 'compute', name: 'computation alone', ys: sizes.map(({ steps }) => steps.flat.compute) },
        ...kinds.map((kind) => ({ kind, name: kind, ys: sizes.map(({ steps }) => steps[kind].total) })),
      ],
      ...{ range: [0, Math.max(...totals) * 1.05], tick: (y) => Number(y.toPrecision(3)).toString() },
    },
    {
      ...{ title: 'exposed communication, % of the step', axis: 'devices', xs: devices, label: String },
      ...{ lines: shares, range: [0, Math.max(5, ...shares.flatMap(({ ys }) => ys)) * 1.05] },
      tick: (y) => `${Number(y.toPrecision(2))} %`,
    },
    {
      title: `goodput by the interval between checkpoints, ${last} devices`,
      ...{
        axis: 'seconds of training between two checkpoints',
        xs: trials.map((trial) => trial.intervalSeconds),
      },
      label: (x) => Number(x.toPrecision(2)).toString(),
      lines: [{ kind: 'goodput', name: 'goodput', ys: goodputs }],
      ...{ range: [floor, 100], tick: (y) => `${Number(y.toPrecision(3))} %` },
      mark: { x: intervalSeconds, text: 'used' },
    },
  ];
  const height = TOP + panels.length * (PANEL + GAP);
  const title = `${config.model.numLayers} layers of ${config.model.hiddenSize}, ${device.name}: from 2 to ${last} devices`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${title}">
<style>${STYLE}</style>
<text class="title" x="10" y="26">${title}</text>
${panels.map((panel, i) => panelOf(panel, TOP + i * (PANEL + GAP))).join('\n')}
</svg>
`;
}

const TICKS = 4;

function panelOf({ title, axis, xs, label, lines, range, tick, mark }: Panel, top: number): string {
  const [low, high] = [Math.log(xs[0]!), Math.log(xs.at(-1)!)];
  const x = (value: number) =>
    round(LEFT + ((Math.log(value) - low) / (high - low || 1)) * (WIDTH - LEFT - RIGHT));
  const bottom = top + PANEL - BOTTOM;
  const y = (value: number) =>
    round(bottom - ((value - range[0]) / (range[1] - range[0])) * (PANEL - BOTTOM - 20));
  const grid = Array.from(
    { length: TICKS + 1 },
    (_, i) => range[0] + ((range[1] - range[0]) * i) / TICKS,
  ).map(
    (value) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}"/><text class="end" x="${LEFT - 8}" y="${y(value) + 4}">${tick(value)}</text>`,
  );
  const every = Math.ceil(xs.length / 14);
  const labels = xs
    .filter((_, i) => i % every === 0 || i === xs.length - 1)
    .map((value) => `<text class="middle" x="${x(value)}" y="${bottom + 18}">${label(value)}</text>`);
  const drawn = lines.map(({ kind, name, ys }) => {
    const points = ys.map((value, i) => ({ x: x(xs[i]!), y: y(value), value }));
    const dots = points.map(
      (point) =>
        `<circle class="${kind}" cx="${point.x}" cy="${point.y}" r="3"><title>${name}: ${tick(point.value)}</title></circle>`,
    );
    return `<polyline class="${kind}" points="${points.map((point) => `${point.x},${point.y}`).join(' ')}"/>${dots.join('')}`;
  });
  const legend =
    lines.length < 2
      ? []
      : lines.map(
          ({ kind, name }, i) =>
            `<line class="${kind}" stroke-width="2" x1="${WIDTH - 530 + i * 180}" x2="${WIDTH - 506 + i * 180}" y1="${top - 10}" y2="${top - 10}"/><text x="${WIDTH - 500 + i * 180}" y="${top - 6}">${name}</text>`,
        );
  const marked = mark
    ? `<line class="mark" x1="${x(mark.x)}" x2="${x(mark.x)}" y1="${top}" y2="${bottom}"/><text x="${x(mark.x) + 6}" y="${bottom - 8}">${mark.text}</text>`
    : '';
  return [
    `<text class="title" x="${LEFT}" y="${top - 6}">${title}</text>`,
    ...legend,
    ...grid,
    ...labels,
    `<text class="middle" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${bottom + 36}">${axis}</text>`,
    ...drawn,
    marked,
  ].join('\n');
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
