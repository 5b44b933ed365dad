/**
 * `sluice find-lr`: for each row and seed the largest learning rate that trains, by bisection over rates in equal ratios. That a
 * run fails at every rate above one at which it fails is assumed, and said.
 */

import { join } from 'node:path';
import { makeDirectories, SluiceError, writeFileAtomic } from '@sluice/core';
import {
  arithmeticOf,
  FIND_LR_FORMAT,
  type FindLrProbe,
  type FindLrResults,
  type FindLrSeed,
  type FindLrVariant,
  findLrTable,
  formatNumber,
  summarizeLargestStable,
  terminalTable,
  writeFindLrReport,
  writeTable,
} from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { describeRow, headOf } from './carryOut.ts';
import type { Cell } from './cells.ts';
import type { FindLrConfig } from './config.ts';
import type { HopelessRule } from './hopeless.ts';
import { type ExperimentOptions, type Laboratory, withLaboratory } from './laboratory.ts';
import type { CellResult } from './runCell.ts';

const RESULTS_FILE = 'find-lr.json';

/** @throws as `runExperiment` does */
export async function findLearningRates(
  options: ExperimentOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  return withLaboratory(options, log, searchAll);
}

/**
 * Searches for every row and seed of a laboratory.
 * @throws SLUICE_E_USAGE, before anything is run, where there is no bound for the loss; SLUICE_E_INTERRUPTED;
 *   SLUICE_E_EXPERIMENT_RUN for a run that ended by something that is no result
 */
export async function searchRates(laboratory: Laboratory): Promise<FindLrResults> {
  const { rows, seeds, cells } = laboratory;
  const rules = cells.map((cell) => hopelessRule(laboratory, cell));
  const settled = await Promise.allSettled(cells.map((cell, i) => search(laboratory, cell, rules[i]!)));
  const found = settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
  return resultsOf(
    laboratory,
    rows.map((row, i): FindLrVariant => {
      const { name, method, parameters } = describeRow(laboratory, row);
      const ofRow = found.slice(i * seeds.length, (i + 1) * seeds.length);
      return { name, method, parameters, seeds: ofRow, summary: summarizeLargestStable(ofRow) };
    }),
  );
}

async function searchAll(laboratory: Laboratory): Promise<CommandResult> {
  const { folder, command } = laboratory;
  const results = await searchRates(laboratory);
  const directory = join(folder.path, 'find-lr');
  const path = join(directory, RESULTS_FILE);
  makeDirectories(directory);
  await writeFileAtomic(path, `${JSON.stringify(results, undefined, 1)}\n`);
  await writeTable(directory, 'find-lr', findLrTable(results));
  const report = await writeFindLrReport(directory, results, { command: `sluice find-lr ${command}` });
  return {
    json: {
      results: path,
      report,
      resolution: results.resolution,
      variants: results.variants.map(({ name, summary, seeds: ofSeeds }) => ({
        name,
        arithmetic: arithmeticOf(ofSeeds.flatMap(({ probes }) => probes)) ?? null,
        largestStable: summary.largestStable,
        spread: summary.spread,
        seeds: ofSeeds.map(({ seed, largestStable, smallestUnstable }) => ({
          seed,
          largestStable,
          smallestUnstable,
        })),
      })),
    },
    text: [summaryTable(results), ...results.notTried, `results: ${path}`, `report: ${report}`].join('\n'),
  };
}

/** The rates that are tried: from the lowest to the highest, in equal ratios. */
export function ratesOf({ from, to, perOctave }: FindLrConfig): number[] {
  const last = Math.floor(Math.log2(to / from) * perOctave + 1e-9);
  return Array.from({ length: last + 1 }, (_, i) => Number((from * 2 ** (i / perOctave)).toPrecision(4)));
}

/** Searches for a row with one seed. */
async function search(
  laboratory: Laboratory,
  { row, seed }: Cell,
  hopeless: HopelessRule,
): Promise<FindLrSeed> {
  const rates = ratesOf(laboratory.experiment.findLr);
  const probes: FindLrProbe[] = [];
  const { stable, unstable } = await bisect(rates.length, async (index) => {
    const cell = laboratory.make.make(row, seed, { learningRate: rates[index]!, hopeless });
    laboratory.expect([cell]);
    const probe = probeOf(laboratory, cell, await laboratory.runner.run(cell));
    probes.push(probe);
    if (probe.outcome === 'failed') {
      throw new SluiceError(
        'SLUICE_E_EXPERIMENT_RUN',
        `${row.name}, seed ${seed}, at a learning rate of ${rates[index]}: ${probe.reason}`,
        { details: { row: row.name, seed, learningRate: rates[index] } },
      );
    }
    return probe.outcome === 'stable';
  });
  return {
    seed,
    probes: probes.toSorted((a, b) => a.learningRate - b.learningRate),
    largestStable: stable === undefined ? null : rates[stable]!,
    smallestUnstable: unstable === undefined ? null : rates[unstable]!,
  };
}

/** Neighbouring places, the first of which holds and the second does not. */
export interface Border {
  /** Undefined where the first place does not hold. */
  readonly stable: number | undefined;
  /** Undefined where the last place holds. */
  readonly unstable: number | undefined;
}

/** Finds where `holds` ends, of the places from 0 on, in as few questions as halving takes. */
export async function bisect(places: number, holds: (place: number) => Promise<boolean>): Promise<Border> {
  let [low, high] = [-1, places];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await holds(middle)) low = middle;
    else high = middle;
  }
  return { stable: low < 0 ? undefined : low, unstable: high === places ? undefined : high };
}

function hopelessRule({ experiment: { findLr }, make }: Laboratory, cell: Cell): HopelessRule {
  const { lossBound, lastingSteps } = findLr;
  const { steps } = cell.config.training;
  const unigram = make.corporaOf(cell).unigramLoss;
  if (lossBound === undefined && unigram === null) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      'Of a mixture no unigram model is known that a run could be held against: set findLr.lossBound.',
    );
  }
  const bound = Math.max(lossBound ?? 0, unigram ?? 0);
  return { lossBound: bound, lastingSteps, afterStep: Math.ceil(steps / 2) + lastingSteps };
}

/** Judges a run by the criterion that the results tell. */
function probeOf(laboratory: Laboratory, cell: Cell, result: CellResult): FindLrProbe {
  const { spikesPerThousand, lossBound } = laboratory.experiment.findLr;
  const { step, validationLoss, trainLoss, spikes, learningRate } = result;
  const { configHash, weightsHash, arithmetic } = result;
  const rate = step === 0 ? 0 : (1000 * spikes) / step;
  const bound = lossBound ?? laboratory.make.corporaOf(cell).unigramLoss;
  const last = validationLoss ?? trainLoss;
  const reason =
    result.outcome !== 'finished'
      ? result.reason
      : rate > spikesPerThousand
        ? `${formatNumber(rate)} spikes a thousand steps`
        : bound !== null && !(last !== null && last < bound)
          ? `its loss at the end, ${last?.toFixed(3) ?? 'no number'}, is not below ${bound.toFixed(3)}`
          : null;
  const outcome = result.outcome === 'failed' ? 'failed' : reason === null ? 'stable' : 'unstable';
  return {
    ...{ learningRate, outcome, step, validationLoss, trainLoss, spikesPerThousand: rate, reason },
    ...{ configHash, weightsHash, arithmetic },
  };
}

function resultsOf(laboratory: Laboratory, variants: FindLrVariant[]): FindLrResults {
  const { experiment, cells, make } = laboratory;
  const { findLr } = experiment;
  const [first] = cells;
  const { training, batch, data } = first!.config;
  const rates = ratesOf(findLr);
  const unigram = make.corporaOf(first!).unigramLoss;
  const bound = findLr.lossBound ?? unigram;
  const edges = variants.flatMap(({ name, seeds }) =>
    seeds.flatMap(({ seed, largestStable, smallestUnstable }) =>
      largestStable === null
        ? [`${name}, seed ${seed}: not even ${rates[0]} is stable; nothing below it was tried.`]
        : smallestUnstable === null
          ? [`${name}, seed ${seed}: stable up to ${rates.at(-1)}; nothing above it was tried.`]
          : [],
    ),
  );
  return {
    format: FIND_LR_FORMAT,
    ...headOf(
      laboratory,
      variants.flatMap(({ name, seeds }) =>
        seeds.flatMap(({ probes }) => probes.map(({ arithmetic }) => ({ row: name, arithmetic }))),
      ),
    ),
    steps: training.steps,
    tokensPerStep: batch.sequences * data.sequenceLength,
    criterion: [
      `it ends below a validation loss of ${bound?.toFixed(3)}`,
      `with at most ${findLr.spikesPerThousand} spikes a thousand steps`,
      `and is not given up (mean loss of ${findLr.lastingSteps} steps above ${Math.max(bound ?? 0, unigram ?? 0).toFixed(3)} once half of it is over)`,
    ].join(', '),
    resolution: 2 ** (1 / findLr.perOctave),
    unigramLoss: unigram,
    variants,
    notTried: [
      ...edges,
      'Halving tries few of the rates: that every rate above an unstable one is unstable, and every rate below a stable one stable, is assumed.',
    ],
  };
}

function summaryTable({ title, scale, steps, criterion, variants }: FindLrResults): string {
  const rows = variants.map(({ method, seeds, summary }) => [
    method,
    summary.largestStable === null ? '-' : summary.largestStable.toPrecision(3),
    summary.spread === null ? '-' : `× ${formatNumber(summary.spread)}`,
    seeds
      .map(({ largestStable }) => (largestStable === null ? '-' : largestStable.toPrecision(3)))
      .join('  '),
  ]);
  const header = ['variant', 'largest stable', 'spread', 'by seed'];
  const table = terminalTable(rows, { header, align: ['left', 'right', 'right', 'left'] });
  return `${title} (${scale}, ${steps} steps)\nstable: ${criterion}\n\n${table}`;
}
