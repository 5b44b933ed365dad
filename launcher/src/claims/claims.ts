/** `sluice claims`: runs what is missing for the paper's testable claims, and says of each what the results say. */

import { join, resolve } from 'node:path';
import { makeDirectories, resolvePath, SluiceError, writeFileAtomic } from '@sluice/core';
import { counted, type ExperimentResults, type FindLrResults } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { carryOut } from '../experiment/carryOut.ts';
import {
  type ExperimentConfig,
  type ExperimentScale,
  loadExperiment,
  scalingOf,
} from '../experiment/config.ts';
import { searchRates } from '../experiment/findLr.ts';
import { type ExperimentOptions, withLaboratory } from '../experiment/laboratory.ts';
import { type Claim, type ClaimTest, isOfRetrieval, loadClaims, rowsOf } from './config.ts';
import { type JudgedClaim, judgeClaim } from './judge.ts';
import { claimAsJson, claimsMarkdown, claimsText } from './tell.ts';

export interface ClaimsOptions {
  /** The claims' file. */
  readonly claims: string;
  readonly scale: ExperimentScale;
  /** Numbers of claims, in place of all. */
  readonly only?: readonly number[] | undefined;
  readonly seeds?: number | undefined;
  readonly jobs?: number | undefined;
  readonly threads?: number | undefined;
  /** Where runs and results are kept. */
  readonly directory: string;
  /** Hours after which no more is run; without a limit when left out. */
  readonly budget?: number | undefined;
}

type Log = (line: string) => void;

/** What an experiment is needed for. */
interface Need {
  readonly path: string;
  readonly rows: ReadonlySet<string>;
}

/**
 * @throws SLUICE_E_USAGE for a claim that is not there; the coded errors of the claims' file and of the experiments; what was not
 *   run within the budget is undecided
 */
export async function testClaims(options: ClaimsOptions, log: Log): Promise<CommandResult> {
  const { claims: path, scale, directory } = options;
  const { title, claims } = loadClaims(path);
  const chosen = chosenClaims(path, claims, options.only);
  const tests = chosen.flatMap(({ requires, tests: own }) => [...requires, ...own]);
  checkTests(path, chosen, scale);
  const budget = budgetSignal(options.budget);
  const experiments = new Map<string, ExperimentResults>();
  for (const need of needsOf(tests.filter(({ kind }) => kind !== 'stable-rate'))) {
    log(`${need.path}: ${need.rows.size} rows`);
    experiments.set(need.path, await runRows(path, need, options, budget, log));
  }
  const rates = new Map<string, FindLrResults>();
  for (const need of needsOf(tests.filter(({ kind }) => kind === 'stable-rate'))) {
    log(`${need.path}: largest stable rates of ${need.rows.size} rows`);
    const found = await findRates(path, need, options, budget, log);
    if (found) rates.set(need.path, found);
  }
  const judged = chosen.map((claim) =>
    judgeClaim(claim, { experiment: (file) => experiments.get(file), findLr: (file) => rates.get(file) }),
  );
  const runs = [...experiments.values()].flatMap((results) => results.runs);
  const count = (outcome: string) => runs.filter((run) => run.outcome === outcome).length;
  const missing = {
    failed: count('failed'),
    pending: count('pending'),
    budgetSpent: budget?.aborted ?? false,
  };
  const folder = join(resolve(directory), `claims-${scale}`);
  const written = await writeVerdicts(folder, title, judged, [...experiments.values()], [...rates.values()]);
  return {
    json: { ...written, scale, ...missing, claims: judged.map(claimAsJson) },
    ...(missing.failed > 0 && { exitCode: 1 }),
    text: [
      claimsText(`${title} (${scale})`, judged),
      ...missingLines(missing),
      `results: ${written.results}`,
    ].join('\n'),
  };
}

function chosenClaims(
  path: string,
  claims: readonly Claim[],
  only: readonly number[] | undefined,
): readonly Claim[] {
  const missing = only?.find((id) => !claims.some((claim) => claim.id === id));
  if (missing !== undefined) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${path} has no claim ${missing}; its claims: ${claims.map(({ id }) => id).join(', ')}.`,
      { details: { claim: missing } },
    );
  }
  return only ? claims.filter(({ id }) => only.includes(id)) : claims;
}

/** Finds what a test asks for that is not there, before hours of other runs. */
function checkTests(path: string, claims: readonly Claim[], scale: ExperimentScale): void {
  for (const { id, requires, tests } of claims) {
    for (const test of [...requires, ...tests]) {
      const file = resolvePath(path, test.experiment);
      const experiment = loadExperiment(file);
      scalingOf(file, experiment, scale);
      checkQuestion(path, id, test, file, experiment);
      const missing = rowsOf(test).find((name) => !experiment.rows.some((row) => row.name === name));
      if (missing === undefined) continue;
      throw new SluiceError(
        'SLUICE_E_USAGE',
        `Claim ${id} of ${path} is about a row ${missing} that ${file} does not have.`,
        {
          details: { claim: id, row: missing, experiment: file },
        },
      );
    }
  }
}

/** @throws SLUICE_E_USAGE for answers to nothing that the experiment asks, and for a question that nothing is measured of */
function checkQuestion(
  path: string,
  id: number,
  test: ClaimTest,
  file: string,
  { retrieval }: ExperimentConfig,
): void {
  if (test.kind === 'stable-rate') return;
  const { measure, question } = test;
  if (!isOfRetrieval(measure) && question === undefined) return;
  if (isOfRetrieval(measure) && retrieval.some(({ name }) => name === question)) return;
  const message = isOfRetrieval(measure)
    ? `is about the answers to ${question ?? 'no question'}, which ${file} does not ask (\`retrieval\`)`
    : `measures ${measure}, and not the answers to ${question}`;
  throw new SluiceError('SLUICE_E_USAGE', `Claim ${id} of ${path} ${message}.`, {
    details: { claim: id, question, experiment: file },
  });
}

interface MissingRuns {
  readonly failed: number;
  readonly pending: number;
  readonly budgetSpent: boolean;
}

function missingLines({ failed, pending, budgetSpent }: MissingRuns): string[] {
  return [
    ...(failed > 0 ? [`${counted(failed, 'run')} failed; the same command tries them again`] : []),
    ...(pending > 0 || budgetSpent
      ? [`the budget was spent with ${counted(pending, 'run')} to do; the same command goes on`]
      : []),
  ];
}

/** The longest that a timer waits, ms: 24.8 days, which claims at a large scale take. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** @returns aborted once the budget is spent; undefined without one */
export function budgetSignal(
  hours: number | undefined,
  now = () => performance.now(),
): AbortSignal | undefined {
  if (hours === undefined) return undefined;
  const spent = new AbortController();
  const end = now() + 3_600_000 * hours;
  const wait = () => {
    const left = end - now();
    if (left <= 0) spent.abort();
    else setTimeout(wait, Math.min(left, LONGEST_TIMER_MS)).unref();
  };
  wait();
  return spent.signal;
}

/** Each experiment once, with the rows that any test needs of it. */
function needsOf(tests: readonly ClaimTest[]): Need[] {
  const byPath = new Map<string, Set<string>>();
  for (const test of tests) {
    const rows = byPath.get(test.experiment) ?? new Set();
    for (const row of rowsOf(test)) rows.add(row);
    byPath.set(test.experiment, rows);
  }
  return [...byPath].map(([path, rows]) => ({ path, rows }));
}

function laboratoryOptions(
  claimsFile: string,
  { path, rows }: Need,
  { scale, seeds, jobs, threads, directory }: ClaimsOptions,
  budget: AbortSignal | undefined,
): ExperimentOptions {
  const experiment = resolvePath(claimsFile, path);
  return { experiment, scale, rows: [...rows], seeds, jobs, threads, directory, budget };
}

async function runRows(
  claimsFile: string,
  need: Need,
  options: ClaimsOptions,
  budget: AbortSignal | undefined,
  log: Log,
): Promise<ExperimentResults> {
  return withLaboratory(laboratoryOptions(claimsFile, need, options, budget), log, async (laboratory) => {
    const { results, failure } = await carryOut(laboratory);
    if (failure !== undefined && !budget?.aborted) throw failure;
    return results;
  });
}

/** @returns undefined where the budget did not last */
async function findRates(
  claimsFile: string,
  need: Need,
  options: ClaimsOptions,
  budget: AbortSignal | undefined,
  log: Log,
): Promise<FindLrResults | undefined> {
  try {
    const found = laboratoryOptions(claimsFile, need, options, budget);
    return await withLaboratory(found, log, searchRates);
  } catch (error) {
    if (budget?.aborted) return undefined;
    throw error;
  }
}

async function writeVerdicts(
  folder: string,
  title: string,
  judged: readonly JudgedClaim[],
  experiments: readonly ExperimentResults[],
  rates: readonly FindLrResults[],
): Promise<{ readonly results: string; readonly markdown: string }> {
  const results = join(folder, 'claims.json');
  const markdown = join(folder, 'claims.md');
  makeDirectories(folder);
  const written = { title, claims: judged.map(claimAsJson), experiments, rates };
  await writeFileAtomic(results, `${JSON.stringify(written, undefined, 1)}\n`);
  await writeFileAtomic(markdown, claimsMarkdown(judged, experiments, rates));
  return { results, markdown };
}
