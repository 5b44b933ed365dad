/** Runs the steps of the kit one after the other, and writes what came of them after each. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { refuseUnwritable, SluiceError, writeOutputFile } from '@sluice/core';
import { cudaDriver, isCudaEmulated } from '@sluice/engine';
import { terminalTable } from '@sluice/observe';
import { PACKAGE_VERSION } from '../packageVersion.ts';
import { interruptible } from '../signals/interruptible.ts';
import type { KitArguments } from './arguments.ts';
import { type StepFile, type StepOrder, stepWords } from './child.ts';
import { KIT_PROGRAM } from './kitProgram.ts';
import { type Ending, runWithin } from './runWithin.ts';
import type { KitStep, Verdict } from './step.ts';

/** The emulator is no card: steps may take so many times as long there. */
const EMULATED_FACTOR = 4;

export type Outcome = Verdict | 'failed' | 'timed out';

export interface StepResult {
  readonly step: string;
  readonly outcome: Outcome;
  readonly seconds: number;
  readonly summary: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Starts a step's process. @returns how it ended */
export type StartStep = (order: StepOrder, limitMs: number, signal: AbortSignal) => Promise<Ending>;

/**
 * @returns the exit code: 0 where every step was right or skipped
 * @throws SLUICE_E_CUDA where there is neither a GPU nor the emulator; SLUICE_E_USAGE; those of a file that cannot be written
 */
export async function runKit(
  { scale, only, json }: KitArguments,
  catalog: readonly KitStep[],
  start: StartStep = startStep,
  print = (text: string): unknown => process.stdout.write(text),
): Promise<number> {
  const isEmulated = isCudaEmulated();
  refuseWithoutDevice(isEmulated);
  if (isEmulated && scale === 'full')
    throw new SluiceError(
      'SLUICE_E_USAGE',
      'The emulator would take days for --scale full: add --scale tiny.',
    );
  refuseUnwritable(json);
  const folder = mkdtempSync(join(tmpdir(), 'sluice-gpu-'));
  const results: StepResult[] = [];
  const write = () => {
    const content = { version: PACKAGE_VERSION, scale, isEmulated, node: process.version, steps: results };
    return writeOutputFile(json, [`${JSON.stringify(content, null, 1)}\n`]);
  };
  try {
    await interruptible(async (signal) => {
      for (const step of catalog.filter(({ name }) => only.includes(name))) {
        const limit = step.limitSeconds * (isEmulated ? EMULATED_FACTOR : 1);
        print(`\n${step.name}: ${step.describe} (at most ${limit} s)\n`);
        const own = join(folder, step.name);
        const order = {
          name: step.name,
          scale,
          folder: own,
          earlier: dataOf(results),
          reportFile: `${own}.json`,
          limitMs: 1000 * limit,
        };
        const begun = performance.now();
        const ending = await start(order, order.limitMs, signal);
        signal.throwIfAborted();
        const result = resultOf(
          step.name,
          readReport(order.reportFile),
          ending,
          (performance.now() - begun) / 1000,
        );
        results.push(result);
        await write();
        print(`${step.name}: ${lineOf(result)}\n`);
        rmSync(own, { recursive: true, force: true });
      }
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  print(`\n${summaryTable(results)}\nresults: ${json}\n`);
  return results.every(({ outcome }) => outcome === 'right' || outcome === 'skipped') ? 0 : 1;
}

function refuseWithoutDevice(isEmulated: boolean): void {
  const driver = isEmulated ? undefined : cudaDriver();
  if (!driver || !('absence' in driver)) return;
  throw new SluiceError('SLUICE_E_CUDA', `There is no GPU to look at: ${driver.absence}, with --scale tiny.`);
}

const dataOf = (results: readonly StepResult[]) =>
  Object.fromEntries(results.map(({ step, data }) => [step, data]));

function readReport(file: string): StepFile | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as StepFile;
  } catch {
    return undefined;
  }
}

/** What came of a step whose process has ended somehow. */
export function resultOf(
  step: string,
  report: StepFile | undefined,
  ending: Ending,
  seconds: number,
): StepResult {
  const data = report?.data ?? {};
  const of = (outcome: Outcome, summary: string) => ({
    ...{ step, outcome, summary, data },
    seconds: Number(seconds.toFixed(1)),
  });
  if (report?.verdict !== undefined) return of(report.verdict, report.summary ?? '');
  if (ending === 'timed out')
    return of('timed out', report ? 'cut off; what it had until then is kept' : 'cut off');
  return of('failed', report?.error ?? 'its process ended without a report');
}

const lineOf = ({ outcome, seconds, summary }: StepResult) => `${outcome}, ${seconds} s: ${summary}`;

function summaryTable(results: readonly StepResult[]): string {
  const rows = results.map(({ step, outcome, seconds, summary }) => [
    step,
    outcome,
    `${seconds}`,
    summary.split('\n')[0]!,
  ]);
  return terminalTable(rows, {
    header: ['step', 'outcome', 's', ''],
    align: ['left', 'left', 'right', 'left'],
  });
}

const startStep: StartStep = (order, limitMs, signal) =>
  runWithin(limitMs, [KIT_PROGRAM, ...stepWords(order)], {
    // Watching memory is for tests.
    env: { SLUICE_CUDA_WATCH: 'off', ...process.env },
    signal,
  });
