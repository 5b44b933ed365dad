/** `sluice experiment`: runs what an experiment lacks, and writes down what was found. */

import { makeDirectories, writeFileAtomic } from '@sluice/core';
import {
  differInArithmetic,
  type Estimate,
  type ExperimentResults,
  experimentTable,
  formatLoss,
  formatNumber,
  questionsOf,
  type RowSummary,
  summarizeRows,
  terminalTable,
  writeExperimentReport,
  writeTable,
} from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { carryOut } from './carryOut.ts';
import { type ExperimentOptions, type Laboratory, withLaboratory } from './laboratory.ts';
import { cellName } from './progress.ts';

/**
 * @throws the coded errors of the experiment's file and of each row's configuration before anything is run;
 *   SLUICE_E_INTERRUPTED after every run was saved
 */
export async function runExperiment(
  options: ExperimentOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  return withLaboratory(options, log, async (laboratory) => {
    const { results, failure } = await carryOut(laboratory);
    const report = await writeResults(laboratory, results);
    if (failure !== undefined) throw failure;
    return conclude(laboratory, results, report);
  });
}

/** @returns the path of the report */
async function writeResults({ folder, command }: Laboratory, results: ExperimentResults): Promise<string> {
  makeDirectories(folder.path);
  await writeFileAtomic(folder.results, `${JSON.stringify(results, undefined, 1)}\n`);
  await writeTable(folder.path, 'results', experimentTable(results));
  return writeExperimentReport(folder.path, results, { command: `sluice experiment ${command}` });
}

function conclude({ folder }: Laboratory, results: ExperimentResults, report: string): CommandResult {
  const count = (outcome: string) => results.runs.filter((run) => run.outcome === outcome).length;
  return {
    json: {
      results: folder.results,
      report,
      runs: results.runs.length,
      finished: count('finished'),
      diverged: count('diverged'),
      failed: count('failed'),
      rows: summarizeRows(results).map(rowAsJson),
    },
    ...(count('failed') > 0 && { exitCode: 1 }),
    text: [
      summaryTable(results),
      ...failureLines(results),
      `results: ${folder.results}`,
      `report: ${report}`,
    ].join('\n'),
  };
}

/** What ended by something that is no result is tried again the next time. */
function failureLines({ runs }: ExperimentResults): string[] {
  const failed = runs.filter(({ outcome }) => outcome === 'failed');
  if (failed.length === 0) return [];
  const lines = failed.map(({ row, seed, reason }) => `  ${cellName(row, seed)}: ${reason}`);
  return [`${failed.length} of ${runs.length} runs failed; the same command tries them again:`, ...lines];
}

function summaryTable(results: ExperimentResults): string {
  const shown = (estimate: Estimate | undefined) => (estimate ? formatNumber(estimate.mean) : '-');
  const questions = questionsOf(results.runs);
  const summaries = summarizeRows(results);
  const arithmeticsDiffer = differInArithmetic(summaries);
  const rows = summaries.map((row) => [
    row.label,
    ...(arithmeticsDiffer ? [row.arithmetic || '-'] : []),
    `${row.outcomes.finished} of ${results.seeds.length}`,
    row.validationLoss ? formatLoss(row.validationLoss.mean) : '-',
    shown(row.perplexity),
    String(spikesOf(row)),
    shown(row.firstTokenAttention),
    shown(row.massiveActivation),
    shown(row.gateScoreMean),
    ...questions.map((question) => shown(row.retrieval[question])),
  ]);
  const texts = ['row', ...(arithmeticsDiffer ? ['arithmetic'] : [])];
  const numbers = ['finished', 'loss', 'perplexity', 'spikes', 'first token', 'massive', 'gate score'];
  const table = terminalTable(rows, {
    header: [...texts, ...numbers, ...questions],
    align: [...texts.map(() => 'left' as const), ...[...numbers, ...questions].map(() => 'right' as const)],
  });
  return `${results.title} (${results.scale}); means over the seeds that finished\n\n${table}`;
}

function spikesOf({ runs }: RowSummary): number {
  return runs.reduce((sum, { spikes }) => sum + spikes, 0);
}

/** Means over the seeds that finished. */
function rowAsJson(row: RowSummary) {
  const mean = (estimate: Estimate | undefined) => estimate?.mean ?? null;
  return {
    name: row.row.name,
    arithmetic: row.arithmetic || null,
    outcomes: row.outcomes,
    spikes: spikesOf(row),
    trainLoss: mean(row.trainLoss),
    validationLoss: mean(row.validationLoss),
    firstTokenAttention: mean(row.firstTokenAttention),
    massiveActivation: mean(row.massiveActivation),
    gateScoreMean: mean(row.gateScoreMean),
    retrieval: Object.fromEntries(
      Object.entries(row.retrieval).map(([question, accuracy]) => [question, accuracy.mean]),
    ),
  };
}
