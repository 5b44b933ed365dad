/** `sluice experiment`: runs what an experiment lacks, and writes down what was found. */

import { makeDirectories, SluiceError, writeFileAtomic } from '@sluice/core';
import { type ExperimentResults, formatNumber, terminalTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { collectResults } from './collectResults.ts';
import { type ExperimentOptions, type Laboratory, withLaboratory } from './laboratory.ts';
import { runName } from './progress.ts';
import { runCells } from './runCells.ts';

/**
 * @throws the coded errors of the experiment's file and of each row's configuration before anything is run;
 *   SLUICE_E_INTERRUPTED after every run was saved; SLUICE_E_EXPERIMENT_RUN when some failed otherwise than by diverging
 */
export async function runExperiment(
  options: ExperimentOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  return withLaboratory(options, log, async (laboratory) => {
    const { cells, runner } = laboratory;
    laboratory.expect(cells);
    const { results, failure } = await runCells(runner, cells);
    const collected = collectResults(laboratory, results);
    await writeResults(laboratory, collected);
    if (failure !== undefined) throw failure;
    return conclude(laboratory, collected);
  });
}

async function writeResults({ folder }: Laboratory, results: ExperimentResults): Promise<void> {
  makeDirectories(folder.path);
  await writeFileAtomic(folder.results, `${JSON.stringify(results, undefined, 1)}\n`);
}

function conclude({ folder }: Laboratory, results: ExperimentResults): CommandResult {
  refuseFailures(results, folder.results);
  const count = (outcome: string) => results.runs.filter((run) => run.outcome === outcome).length;
  return {
    json: {
      results: folder.results,
      runs: results.runs.length,
      finished: count('finished'),
      diverged: count('diverged'),
      rows: results.rows.map(({ name }) => ({ name, ...meansOf(results, name) })),
    },
    text: [summaryTable(results), `results: ${folder.results}`].join('\n'),
  };
}

function refuseFailures({ runs }: ExperimentResults, path: string): void {
  const failed = runs.filter(({ outcome }) => outcome === 'failed');
  if (failed.length === 0) return;
  const lines = failed.map(({ row, seed, reason }) => `${runName(row, seed)}: ${reason}`);
  throw new SluiceError(
    'SLUICE_E_EXPERIMENT_RUN',
    [`${failed.length} of ${runs.length} runs failed; the others are in ${path}.`, ...lines].join('\n'),
    { details: { failed: failed.map(({ row, seed, reason }) => ({ row, seed, reason })), results: path } },
  );
}

const MEASURES = ['trainLoss', 'validationLoss'] as const;
const DIAGNOSED = ['firstTokenAttention', 'massiveActivation', 'gateScoreMean'] as const;

/** Means over the seeds that finished; null where there is none. */
function meansOf({ runs }: ExperimentResults, row: string) {
  const own = runs.filter((run) => run.row === row);
  const finished = own.filter(({ outcome }) => outcome === 'finished');
  const mean = (values: (number | null | undefined)[]) => {
    const there = values.filter((value) => typeof value === 'number');
    return there.length === 0 ? null : there.reduce((a, b) => a + b, 0) / there.length;
  };
  return {
    seeds: own.length,
    finished: finished.length,
    spikes: own.reduce((sum, { spikes }) => sum + spikes, 0),
    ...Object.fromEntries(MEASURES.map((name) => [name, mean(finished.map((run) => run[name]))])),
    ...Object.fromEntries(
      DIAGNOSED.map((name) => [name, mean(finished.map((run) => run.diagnosis?.[name]))]),
    ),
  } as { seeds: number; finished: number; spikes: number } & Record<
    (typeof MEASURES)[number] | (typeof DIAGNOSED)[number],
    number | null
  >;
}

function summaryTable(results: ExperimentResults): string {
  const shown = (value: number | null) => (value === null ? '-' : formatNumber(value));
  const rows = results.rows.map(({ name, method }) => {
    const means = meansOf(results, name);
    return [
      method,
      `${means.finished} of ${means.seeds}`,
      shown(means.validationLoss),
      means.validationLoss === null ? '-' : formatNumber(Math.exp(means.validationLoss)),
      String(means.spikes),
      ...DIAGNOSED.map((measure) => shown(means[measure])),
    ];
  });
  const header = ['row', 'finished', 'loss', 'perplexity', 'spikes', 'first token', 'massive', 'gate score'];
  const table = terminalTable(rows, {
    header,
    align: ['left', ...header.slice(1).map(() => 'right' as const)],
  });
  return `${results.title} (${results.scale}); means over the seeds that finished\n\n${table}`;
}
