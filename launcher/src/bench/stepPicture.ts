/** The picture of where a training step's time goes: a bar for each part, stacked by pass, as SVG for light and dark pages. */

import type { StepProfile } from '@sluice/train';

const [WIDTH, LEFT, RIGHT, TOP, ROW, BAR] = [780, 210, 140, 74, 26, 16];

/** Names, classes and places in the legend. */
const KINDS = [
  { key: 'forwardMs', label: 'forward' },
  { key: 'backwardMs', label: 'backward' },
  { key: 'updateMs', label: 'update' },
  { key: 'betweenMs', label: 'no kernel' },
] as const;

export const NO_KERNEL_ON_DEVICE = 'copies, waiting for the host';

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; } .quiet { fill: #59636e; } .end { text-anchor: end; }
  .axis { stroke: #d1d9e0; }
  .forwardMs { fill: #4f9bd9; } .backwardMs { fill: #1d5c94; } .updateMs { fill: #c77f1a; } .betweenMs { fill: #8a94a0; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; } .axis { stroke: #3d444d; }
    .forwardMs { fill: #79c0ff; } .backwardMs { fill: #3b82c4; } .updateMs { fill: #e3a341; } .betweenMs { fill: #768390; }
  }`;

interface Row {
  readonly name: string;
  readonly times: Readonly<Partial<Record<(typeof KINDS)[number]['key'], number>>>;
}

/** What the time is in which no kernel runs. */
function betweenKernels({ outsideOperationsMs }: StepProfile): string {
  return outsideOperationsMs === undefined ? NO_KERNEL_ON_DEVICE : 'TensorFlow.js, JavaScript';
}

/** @param title what was measured, and how */
export function stepPicture(profile: StepProfile, title: string): string {
  const rows: Row[] = [
    ...profile.parts.map(({ name, ...times }) => ({ name, times })),
    { name: betweenKernels(profile), times: { betweenMs: profile.betweenKernelsMs } },
  ];
  const total = (row: Row) => Object.values(row.times).reduce((sum, ms) => sum + ms, 0);
  const longest = Math.max(...rows.map(total), Number.MIN_VALUE);
  const scale = (WIDTH - LEFT - RIGHT) / longest;
  const height = TOP + rows.length * ROW + 14;
  const bars = rows.map((row, i) => {
    const y = TOP + i * ROW;
    let x = LEFT;
    const segments = KINDS.map(({ key, label }) => {
      const width = (row.times[key] ?? 0) * scale;
      const segment = `<rect class="${key}" x="${round(x)}" y="${y}" width="${round(width)}" height="${BAR}"><title>${escaped(row.name)}, ${label}: ${milliseconds(row.times[key] ?? 0)}</title></rect>`;
      x += width;
      return width > 0 ? segment : '';
    });
    const share = `${((100 * total(row)) / profile.stepMs).toFixed(1)} %`;
    return [
      text(LEFT - 10, y + 13, row.name, 'end'),
      ...segments,
      text(WIDTH - 70, y + 13, milliseconds(total(row)), 'end'),
      text(WIDTH - 6, y + 13, share, 'end quiet'),
    ].join('');
  });
  const legend = KINDS.map(({ key, label }, i) => {
    const x = LEFT + i * 104;
    return `<rect class="${key}" x="${x}" y="46" width="12" height="12"/>${text(x + 18, 57, label, 'quiet')}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escaped(title)}">
<style>${STYLE}</style>
${text(10, 24, title, 'title')}
${text(WIDTH - 6, 24, `${milliseconds(profile.stepMs)} a step`, 'end')}
${legend.join('\n')}
<line class="axis" x1="${LEFT}" x2="${LEFT}" y1="${TOP - 6}" y2="${height - 12}"/>
${bars.join('\n')}
</svg>
`;
}

function text(x: number, y: number, content: string, classes: string): string {
  return `<text x="${x}" y="${y}" class="${classes}">${escaped(content)}</text>`;
}

function milliseconds(ms: number): string {
  return ms >= 100 ? `${ms.toFixed(0)} ms` : `${ms.toPrecision(2)} ms`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escaped(content: string): string {
  return content
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
