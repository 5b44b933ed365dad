/** Losses against learning rates, and the largest rates at which training is stable. */

import { type PlotPoint, type PointSeries, pointPlot } from '../../figures/pointPlot.ts';
import { COLORS, dashOf, powersScale, scaleAt } from '../../figures/svg.ts';
import { type TrackMark, type TrackRow, tracks } from '../../figures/tracks.ts';
import { counted, formatLoss, formatRate, groupDigits } from '../../format.ts';
import { details, legend, panel, paragraph, rowSample, table } from '../../report/elements.ts';
import type { RowSummary } from '../compare.ts';
import type { FindLrProbe, FindLrResults, FindLrSeed, FindLrVariant } from '../findLr.ts';
import { mean } from '../statistics.ts';

/** A run at a learning rate: `y` is its loss, null where it has none. */
type Trial = Omit<PlotPoint, 'mark'> & { readonly isStable: boolean };

/**
 * Losses of the rows that are one method at several learning rates; empty where none is. Rows are of one method where the experiment
 * gives them the same words for it.
 */
export function learningRatePanel(rows: readonly RowSummary[]): string {
  const families = new Map<string, Trial[]>();
  for (const { row, runs } of rows) {
    const trials = families.get(row.method) ?? [];
    families.set(row.method, trials);
    for (const { seed, learningRate, outcome, step, validationLoss } of runs) {
      if (learningRate <= 0) continue;
      const title = `${row.method} at ${formatRate(learningRate)}, seed ${seed}`;
      if (outcome === 'diverged') {
        trials.push({
          x: learningRate,
          y: null,
          isStable: false,
          title: `${title}: diverged at step ${step}`,
        });
      } else if (outcome === 'finished' && validationLoss !== null) {
        trials.push({ x: learningRate, y: validationLoss, isStable: true, title });
      }
    }
  }
  const shown = [...families].filter(([, trials]) => new Set(trials.map(({ x }) => x)).size > 1);
  if (shown.length === 0) return '';
  return panel(
    'Loss against learning rate',
    'validation loss of the methods that were run at several rates, nats a token',
    ratePlot(shown, 'A cross is a run that diverged'),
    'panel wide',
  );
}

/** @param methods each with its runs */
function ratePlot(
  methods: readonly (readonly [name: string, trials: readonly Trial[]])[],
  crosses: string,
): string {
  const series = methods.map(([, trials], index): PointSeries => {
    const rates = [...new Set(trials.map(({ x }) => x))].sort((a, b) => a - b);
    const line = rates.flatMap((x) => {
      const losses = trials.flatMap((trial) =>
        trial.x === x && trial.isStable && trial.y !== null ? [trial.y] : [],
      );
      return losses.length === 0 ? [] : [{ x, y: mean(losses) }];
    });
    return {
      ...{ color: index % COLORS, dash: dashOf(index), line },
      points: trials.map(({ isStable, ...point }) => ({ ...point, mark: isStable ? 'ring' : 'cross' })),
    };
  });
  const plot = pointPlot({ series, axis: 'learning rate', strip: 'no loss' });
  const hint = `A ring is a run, the line leads through the means over seeds. ${crosses}; without a loss, or with one far above the others, it stands above the plot.`;
  return `${legend(
    methods.map(([name]) => name),
    rowSample,
  )}<div class="points">${plot}</div>${paragraph('hint', hint)}`;
}

/** Panels of a search for the largest stable learning rates. */
export function findLrPanels(results: FindLrResults): string[] {
  const { variants } = results;
  const tried = variants.map(
    ({ method, seeds }) =>
      [
        method,
        seeds.flatMap(({ seed, probes }) => probes.map((probe) => trialOf(probe, method, seed))),
      ] as const,
  );
  const plot = tried.some(([, trials]) => trials.length > 0)
    ? panel(
        'Loss against learning rate',
        'of all runs of the search, nats a token',
        ratePlot(tried, 'A cross is a run that is not stable, or that failed'),
        'panel wide',
      )
    : '';
  return [largestStablePanel(results), plot, probesPanel(variants)].filter((text) => text !== '');
}

function trialOf(
  { learningRate, outcome, step, validationLoss, trainLoss }: FindLrProbe,
  method: string,
  seed: number,
) {
  return {
    ...{ x: learningRate, y: validationLoss ?? trainLoss, isStable: outcome === 'stable' },
    title: `${method} at ${formatRate(learningRate)}, seed ${seed}: ${outcome}${outcome === 'stable' ? '' : ` at step ${step}`}`,
  };
}

function largestStablePanel({ variants, criterion, resolution, notTried }: FindLrResults): string {
  const rates = variants.flatMap(({ seeds }) =>
    seeds.flatMap(({ probes, largestStable, smallestUnstable }) => [
      ...probes.map(({ learningRate }) => learningRate),
      ...[largestStable, smallestUnstable].filter((rate) => rate !== null),
    ]),
  );
  if (rates.length === 0) return '';
  const rows = variants.map((variant, index): TrackRow => {
    const { largestStable, spread, seeds } = variant.summary;
    const all = variant.seeds.length;
    return {
      ...{ name: variant.method, note: variant.name, color: index % COLORS },
      marks: [
        ...variant.seeds.flatMap((search, i) => bracket(search, liftOf(i, all))),
        ...geometricMean(variant),
      ],
      value: largestStable === null ? 'none stable' : rateText(largestStable, spread),
      remark: [`${seeds} of ${counted(all, 'seed')}`, ...variant.seeds.flatMap(openEnd)].join(' · '),
    };
  });
  const hints = [
    `Stable: ${criterion}.`,
    `Dot: geometric mean over seeds, ×/÷ its geometric standard deviation; ring: largest stable rate of a seed; line: from there to the smallest rate that was seen unstable. Neighbouring rates of the search differ by a factor of ${Number(resolution.toPrecision(3))}: no difference smaller than that can be told.`,
    ...(notTried.length > 0 ? [`Not tried: ${notTried.join(' ')}`] : []),
  ];
  const format = (tick: number) => formatRate(tick).replace(/\.?0+e/, 'e');
  const axis = { scale: scaleAt(rates, powersScale(rates)), label: 'learning rate', format };
  return panel(
    'Largest stable learning rate',
    'by variant, on a logarithmic axis; right is larger',
    `${tracks(rows, axis)}${hints.map((hint) => paragraph('hint', hint)).join('')}`,
    'panel wide',
  );
}

function rateText(rate: number, spread: number | null): string {
  return spread === null ? formatRate(rate) : `${formatRate(rate)} ×/÷ ${spread.toFixed(2)}`;
}

/** Seeds stand one above the other. */
function liftOf(index: number, count: number): number {
  return count < 2 ? 0 : 1 - (2 * index) / (count - 1);
}

function bracket({ seed, largestStable, smallestUnstable }: FindLrSeed, lift: number): TrackMark[] {
  const [stable, unstable] = [largestStable, smallestUnstable].map((rate) =>
    rate === null ? 'none' : formatRate(rate),
  );
  const title = `seed ${seed}: stable up to ${stable}, unstable from ${unstable}`;
  return [
    ...(largestStable !== null && smallestUnstable !== null
      ? [{ kind: 'whisker', from: largestStable, to: smallestUnstable, title, lift } as const]
      : []),
    ...(largestStable !== null ? [{ kind: 'ring', at: largestStable, title, lift } as const] : []),
    ...(largestStable === null && smallestUnstable !== null
      ? [{ kind: 'cross', at: smallestUnstable, title, lift } as const]
      : []),
  ];
}

function geometricMean({ summary: { largestStable }, method }: FindLrVariant): TrackMark[] {
  if (largestStable === null) return [];
  return [{ kind: 'dot', at: largestStable, title: `${method}: ${formatRate(largestStable)}` }];
}

/** Where a search found only one end. */
function openEnd({ seed, largestStable, smallestUnstable }: FindLrSeed): string[] {
  if (largestStable === null) return [`seed ${seed}: none stable`];
  return smallestUnstable === null ? [`seed ${seed}: at least, none unstable`] : [];
}

function probesPanel(variants: readonly FindLrVariant[]): string {
  const rows = variants.flatMap(({ method, seeds }) =>
    seeds.flatMap(({ seed, probes }) =>
      probes.map((probe) => [
        method,
        String(seed),
        formatRate(probe.learningRate),
        probe.outcome,
        groupDigits(probe.step),
        probe.trainLoss === null ? '' : formatLoss(probe.trainLoss),
        probe.validationLoss === null ? '' : formatLoss(probe.validationLoss),
        probe.spikesPerThousand.toFixed(2),
        probe.reason ?? '',
        probe.configHash.slice(0, 12),
        probe.weightsHash?.slice(0, 12) ?? '',
      ]),
    ),
  );
  if (rows.length === 0) return '';
  const headings = [
    ['Variant', 'sticky'],
    ['Seed', 'number'],
    ['Learning rate', 'number'],
    ['Outcome', ''],
    ['Steps', 'number'],
    ['Training loss', 'number'],
    ['Validation loss', 'number'],
    ['Spikes for each 1000 steps', 'number'],
    ['Reason', 'free'],
    ['Configuration', 'hash'],
    ['Weights', 'hash'],
  ] as const;
  const content = details(counted(rows.length, 'run'), table(headings, rows), rows.length <= 60);
  return panel('Every run of the search', '', content, 'panel wide');
}
