/** Run by run: what became of it, its spikes, its hashes. */

import { counted, formatCount, formatLoss, formatRate, groupDigits } from '../../format.ts';
import { details, escapeHtml, panel, paragraph, type TableCell, table } from '../../report/elements.ts';
import type { RowSummary } from '../compare.ts';
import type { ExperimentResults, ExperimentRun } from '../results.ts';
import { rowCell } from './resultTables.ts';

/** Rows × seeds with the spikes of each run, and where one broke off. */
export function outcomePanel(rows: readonly RowSummary[], seeds: readonly number[]): string {
  const headings = [
    ['Row', 'sticky'] as const,
    ...seeds.map((seed) => [`Seed ${seed}`, ''] as const),
    ['For each 1000 steps', 'number'] as const,
  ];
  const cells = rows.map((summary, index) => {
    const { runs } = summary;
    const steps = runs.reduce((sum, { step }) => sum + step, 0);
    const spikes = runs.reduce((sum, run) => sum + run.spikes, 0);
    return [
      rowCell(summary, index),
      ...seeds.map((seed) => outcomeCell(runs.find((run) => run.seed === seed))),
      steps > 0 ? ((1000 * spikes) / steps).toFixed(2) : '',
    ];
  });
  return panel(
    'Spikes and outcomes',
    'episodes that the spike detector found, by run; ✕ where training diverged or failed',
    table(headings, cells),
    'panel wide',
  );
}

function outcomeCell(run: ExperimentRun | undefined): TableCell {
  if (!run || run.outcome === 'pending') return 'not run';
  const { outcome, spikes, step } = run;
  const found = counted(spikes, 'spike');
  if (outcome === 'finished') {
    return { html: `<span class="outcome${spikes > 0 ? ' spiked' : ''}">${found}</span>` };
  }
  return { html: `<span class="outcome broken">✕ ${outcome} at ${groupDigits(step)}, ${found}</span>` };
}

/** Runs that did not finish, each with its step and reason: results like the others. */
export function faultsPanel(rows: readonly RowSummary[]): string {
  const faults = rows.flatMap((summary, index) =>
    summary.runs
      .filter(({ outcome }) => outcome === 'diverged' || outcome === 'failed')
      .map((run): TableCell[] => [
        rowCell(summary, index),
        String(run.seed),
        formatRate(run.learningRate),
        run.outcome,
        `${groupDigits(run.step)} of ${groupDigits(run.steps)}`,
        [run.reason ?? '', run.errorCode ? `(${run.errorCode})` : ''].join(' ').trim(),
      ]),
  );
  if (faults.length === 0) return '';
  const headings = [
    ['Row', 'sticky'],
    ['Seed', 'number'],
    ['Learning rate', 'number'],
    ['Outcome', ''],
    ['Step', 'number'],
    ['Reason', 'free'],
  ] as const;
  return panel(
    'Runs that did not finish',
    counted(faults.length, 'run'),
    table(headings, faults),
    'panel wide',
  );
}

/** Runs of a page that shows them unfolded. */
const UNFOLDED = 60;

/** Of a content hash: enough to tell any two apart. */
const HASH_DIGITS = 12;

export function runsPanel(rows: readonly RowSummary[]): string {
  const lines = rows.flatMap((summary, index) =>
    summary.runs.map((run) => [
      rowCell(summary, index),
      String(run.seed),
      formatRate(run.learningRate),
      run.outcome,
      groupDigits(run.step),
      formatCount(run.tokens),
      run.validationLoss === null ? '' : formatLoss(run.validationLoss),
      hashCell(run.configHash),
      run.weightsHash === null ? '' : hashCell(run.weightsHash),
    ]),
  );
  if (lines.length === 0) return '';
  const headings = [
    ['Row', 'sticky'],
    ['Seed', 'number'],
    ['Learning rate', 'number'],
    ['Outcome', ''],
    ['Steps', 'number'],
    ['Tokens', 'number'],
    ['Validation loss', 'number'],
    ['Configuration', 'hash'],
    ['Weights', 'hash'],
  ] as const;
  return panel(
    'Every run',
    'hashes of the resolved configuration and of the weights after the last step: their beginnings',
    details(counted(lines.length, 'run'), table(headings, lines), lines.length <= UNFOLDED),
    'panel wide',
  );
}

function hashCell(hash: string): TableCell {
  return { html: `<code title="${escapeHtml(hash)}">${escapeHtml(hash.slice(0, HASH_DIGITS))}</code>` };
}

/** How to come to the same numbers. */
export function reproductionPanel(
  {
    version,
    arithmetic,
    name,
    scale,
    seeds,
  }: Pick<ExperimentResults, 'version' | 'arithmetic' | 'name' | 'scale' | 'seeds'>,
  command: string | undefined,
): string {
  const text = `Experiment ${name} at the scale ${scale}, ${counted(seeds.length, 'seed')} (${seeds.join(', ')}), version ${version}, arithmetic ${arithmetic}. A run with the same configuration hash, version and arithmetic ends with the same weights hash, whatever the number of workers and threads, and however often it was interrupted.`;
  const shown = command === undefined ? '' : `<pre class="command">${escapeHtml(command)}</pre>`;
  return panel('To reproduce', '', `${shown}${paragraph('plain', text)}`, 'panel wide');
}
