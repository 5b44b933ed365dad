/** How fast workers computed in a run that was trained. */

import { loadYamlConfig, SluiceError } from '@sluice/core';
import { readMetrics } from '@sluice/observe';
import { RunConfig, type Speed, savedBytes } from '@sluice/train';
import { percentLogger } from './percentLogger.ts';
import { existingRun } from './runDirectory.ts';

/** The speed at which workers like those of the run take a step of a configuration. */
export type MeasuredSpeed = (config: RunConfig) => Pick<Speed, 'secondsPerToken' | 'optimizerSeconds'>;

/** Steps that are left out at the beginning: they warm up. */
const WARM_UP = 2;

/** @throws SLUICE_E_RUN_MISSING; SLUICE_E_USAGE for a run without enough steps */
export async function measuredSpeed(path: string, log: (line: string) => void): Promise<MeasuredSpeed> {
  const run = existingRun(path);
  const measured = loadYamlConfig(run.config, RunConfig);
  const onProgress = percentLogger(`reading the steps of ${path}`, log);
  const [compute, optimize]: number[][] = [[], []];
  for await (const { seconds, tokens } of readMetrics(run.metrics, { onProgress })) {
    compute!.push((seconds.compute * measured.parallel.workers) / tokens);
    optimize!.push(seconds.optimize);
  }
  if (compute!.length <= WARM_UP) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `The run in ${run.path} has too few steps to measure its speed by.`,
    );
  }
  const secondsPerToken = medianOf(compute!.slice(WARM_UP));
  // In proportion to what a worker owns.
  const secondsPerByte = medianOf(optimize!.slice(WARM_UP)) / savedBytes(measured);
  return (config) => ({ secondsPerToken, optimizerSeconds: secondsPerByte * savedBytes(config) });
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
