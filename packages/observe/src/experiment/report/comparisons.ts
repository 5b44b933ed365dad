/** Differences to the baselines as a forest plot, the paper's beside them. */

import { COLORS, roundScale } from '../../figures/svg.ts';
import { type TrackMark, type TrackRow, tracks } from '../../figures/tracks.ts';
import { counted, formatLoss } from '../../format.ts';
import { panel, paragraph } from '../../report/elements.ts';
import type { Comparison, RowSummary } from '../compare.ts';
import { INTERVAL_METHODS } from '../statistics.ts';
import { differenceText, signed } from './numbers.ts';
import { formatPerplexity } from './resultTables.ts';

/** The panel of differences, empty where no row has another baseline than itself. */
export function comparisonPanel(
  comparisons: readonly Comparison[],
  summaries: readonly RowSummary[],
): string {
  if (comparisons.length === 0) return '';
  const indexOf = (name: string) => summaries.findIndex(({ row }) => row.name === name);
  const labelOf = (name: string) => summaries[indexOf(name)]?.label ?? name;
  const baselines = [...new Set(comparisons.map(({ row }) => row.baseline))];
  const against = ({ row, baseline }: Comparison) =>
    baseline ? `against ${labelOf(row.baseline)}` : `its baseline ${row.baseline} is not among the rows`;
  const rows = comparisons.map((comparison): TrackRow => {
    const { row, loss, perplexity, unpaired } = comparison;
    const fell = loss ? `lower with ${loss.below} of ${counted(loss.seeds, 'seed')}` : '';
    const inPerplexity = perplexity ? `perplexity ${differenceText(perplexity, formatPerplexity)}` : '';
    const paper = paperDifference(comparison);
    const left = unpaired.map(({ seed, reason }) => `seed ${seed}: ${reason}`).join('; ');
    return {
      name: labelOf(row.name),
      note: baselines.length > 1 ? against(comparison) : '',
      color: Math.max(0, indexOf(row.name)) % COLORS,
      marks: marksOf(comparison, paper),
      value: differenceText(loss, formatLoss),
      remark: [
        fell,
        inPerplexity,
        paper === undefined ? '' : `paper ${signed(paper, formatLoss)}`,
        left === '' ? '' : `left out: ${left}`,
      ]
        .filter((text) => text !== '')
        .join(' · '),
    };
  });
  const methods = new Set(comparisons.flatMap(({ loss }) => (loss?.interval ? [loss.interval.method] : [])));
  const several =
    comparisons.length > 1
      ? ` Each interval is of 95 % by itself; that all ${comparisons.length} hold is less sure.`
      : '';
  return panel(
    'Differences to the baseline',
    `validation loss, nats a token, row − baseline with the same seed${baselines.length > 1 ? '' : `, ${against(comparisons[0]!)}`}; left is better`,
    `${tracks(rows, { scale: scaleFor(comparisons), label: 'nats', reference: 0 })}
${paragraph('hint', `Dot: mean over seeds; ring: one seed; line: ${[...methods].map((method) => INTERVAL_METHODS[method]).join('; or ') || 'none, with fewer than two seeds'}; diamond: the paper’s, the logarithm of its perplexity ÷ the baseline’s.${several} A seed is left out where the row or its baseline did not finish: what remains speaks of the others only.`)}`,
    'panel wide',
  );
}

/** Of the paper's models, nats a token: perplexities are e to the loss. */
function paperDifference({ row, baseline }: Comparison): number | undefined {
  const [ours, theirs] = [row.paper.perplexity, baseline?.paper.perplexity];
  if (!ours || !theirs || ours < 0 || theirs < 0) return undefined;
  const difference = Math.log(ours / theirs);
  return Number.isFinite(difference) ? difference : undefined;
}

function marksOf({ loss, pairs }: Comparison, paper: number | undefined): TrackMark[] {
  const marks: TrackMark[] = [];
  if (loss?.interval) {
    const { low, high } = loss.interval;
    const title = `95 %: ${signed(low, formatLoss)} to ${signed(high, formatLoss)}`;
    marks.push({ kind: 'whisker', from: low, to: high, title });
  }
  if (paper !== undefined) {
    marks.push({ kind: 'diamond', at: paper, title: `paper: ${signed(paper, formatLoss)}` });
  }
  if (loss && loss.seeds > 1) {
    for (const { seed, difference } of pairs) {
      marks.push({ kind: 'ring', at: difference, title: `seed ${seed}: ${signed(difference, formatLoss)}` });
    }
  }
  if (loss) marks.push({ kind: 'dot', at: loss.mean, title: `mean: ${signed(loss.mean, formatLoss)}` });
  return marks;
}

/** Over all means and seeds; an interval may reach as far again, lest that of two seeds leave the rest no room. */
function scaleFor(comparisons: readonly Comparison[]) {
  const points = comparisons.flatMap((comparison) => {
    const { loss, pairs } = comparison;
    const paper = paperDifference(comparison);
    return [
      ...(loss ? [loss.mean, ...pairs.map(({ difference }) => difference)] : []),
      ...(paper === undefined ? [] : [paper]),
    ];
  });
  const [low, high] = [Math.min(0, ...points), Math.max(0, ...points)];
  const room = high - low || 1;
  const ends = comparisons.flatMap(({ loss }) => (loss?.interval ? [loss.interval] : []));
  return roundScale(
    Math.min(low, ...ends.map((end) => Math.max(end.low, low - room))),
    Math.max(high, ...ends.map((end) => Math.min(end.high, high + room))),
  );
}
