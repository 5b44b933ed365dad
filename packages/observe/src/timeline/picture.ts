/** A step's timeline as a picture: for each worker what its main thread did, and below it when operations were under way. */

import { type RankTimeline, type StepTimeline, timelineShares } from './timeline.ts';

const [WIDTH, LEFT, RIGHT, TOP, ROW, BAR, LINE] = [980, 64, 190, 74, 46, 20, 3];

/** More rows than this nobody looks at. */
const MOST_RANKS = 32;

const KINDS = [
  { kind: 'forward', label: 'forward' },
  { kind: 'backward', label: 'backward' },
  { kind: 'update', label: 'sums, update' },
  { kind: 'waiting', label: 'waits for a worker' },
  { kind: 'exposed', label: 'moves bytes' },
  { kind: 'operation', label: 'operations under way' },
] as const;

type Kind = (typeof KINDS)[number]['kind'];

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; } .quiet { fill: #59636e; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  .axis { stroke: #d1d9e0; }
  .forward { fill: #4f9bd9; } .backward { fill: #1d5c94; } .update { fill: #c77f1a; } .waiting { fill: #d8dee4; }
  .exposed { fill: #cf222e; } .operation { fill: #8250df; fill-opacity: .55; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; } .axis { stroke: #3d444d; }
    .forward { fill: #79c0ff; } .backward { fill: #3b82c4; } .update { fill: #e3a341; } .waiting { fill: #3d444d; }
    .exposed { fill: #f85149; } .operation { fill: #b083f0; }
  }`;

interface Stretch {
  readonly kind: Kind;
  readonly from: number;
  readonly to: number;
}

export function timelinePicture({ step, ranks }: StepTimeline): string {
  const shown = ranks.slice(0, MOST_RANKS);
  const length = Math.max(...ranks.map(({ end }) => end), Number.MIN_VALUE);
  const scale = (WIDTH - LEFT - RIGHT) / length;
  const height = TOP + shown.length * ROW + 34;
  const rows = shown.map((timeline, i) => rowOf(timeline, TOP + i * ROW, scale));
  const legend = KINDS.map(
    ({ kind, label }, i) =>
      `<rect class="${kind}" x="${LEFT + i * 150}" y="40" width="12" height="12"/>${text(LEFT + i * 150 + 18, 51, label, 'quiet')}`,
  );
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const x = round(LEFT + share * length * scale);
    return `<line class="axis" x1="${x}" x2="${x}" y1="${TOP - 8}" y2="${height - 26}"/>${text(x, height - 10, milliseconds(share * length), 'middle quiet')}`;
  });
  const more = ranks.length > shown.length ? ` (${shown.length} of ${ranks.length} workers)` : '';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Timeline of step ${step}">
<style>${STYLE}</style>
${text(10, 24, `Step ${step}, worker by worker${more}`, 'title')}
${text(WIDTH - 6, 24, 'waiting / moving bytes, of the step', 'end quiet')}
${legend.join('\n')}
${ticks.join('\n')}
${rows.join('\n')}
</svg>
`;
}

function rowOf(timeline: RankTimeline, y: number, scale: number): string {
  const { spans, waits, operations } = timeline;
  const computed = spans.map(
    ({ pass, start, end }): Stretch => ({ kind: pass ?? 'update', from: start, to: end }),
  );
  const blocked = waits.flatMap(({ start, begun, end }): Stretch[] => [
    { kind: 'waiting', from: start, to: begun },
    { kind: 'exposed', from: begun, to: end },
  ]);
  const underway = operations
    .map(({ launched, ended }): Stretch => ({ kind: 'operation', from: launched, to: ended }))
    .sort((a, b) => a.from - b.from);
  const bars = (stretches: readonly Stretch[], top: number, thick: number) =>
    joined(stretches, 0.4 / scale).map(
      ({ kind, from, to }) =>
        `<rect class="${kind}" x="${round(LEFT + from * scale)}" y="${top}" width="${round(Math.max((to - from) * scale, 0.1))}" height="${thick}"/>`,
    );
  const { total, waiting, exposed } = timelineShares(timeline);
  const percent = (ms: number) => `${((100 * ms) / total).toFixed(1)} %`;
  return [
    text(LEFT - 8, y + 15, `rank ${timeline.rank}`, 'end'),
    ...bars(computed, y, BAR),
    ...bars(blocked, y, BAR),
    ...bars(underway, y + BAR + 2, LINE),
    text(WIDTH - 6, y + 15, `${percent(waiting)} / ${percent(exposed)}`, 'end'),
  ].join('');
}

/** Stretches of one kind with no more than `gap` between them, as one: a picture cannot show more. */
function joined(stretches: readonly Stretch[], gap: number): Stretch[] {
  const result: Stretch[] = [];
  for (const stretch of stretches) {
    const last = result.at(-1);
    if (last?.kind === stretch.kind && stretch.from - last.to <= gap) {
      result[result.length - 1] = { ...last, to: Math.max(last.to, stretch.to) };
    } else if (stretch.to > stretch.from) result.push(stretch);
  }
  return result;
}

function text(x: number, y: number, content: string, classes: string): string {
  return `<text x="${x}" y="${y}" class="${classes}">${content}</text>`;
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
