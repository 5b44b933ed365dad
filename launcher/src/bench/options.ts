/** Flags of the benchmarks. */

import { availableCores, MOST_THREADS, SluiceError } from '@sluice/core';
import type { BenchClock } from '@sluice/train';
import { wholeNumber } from '../cli/options.ts';

/**
 * Has OpenMP use so many threads, which it reads once, when the C++ core is loaded: nothing may have imported that before.
 * @param threads as given, 0 for all cores
 * @returns their number
 * @throws SLUICE_E_USAGE where the processor's time would be that of threads that wait, too: they spin
 */
export function useThreads(threads: number, clock: BenchClock): number {
  const count = threads === 0 ? availableCores().count : threads;
  if (clock === 'cpu' && count > 1)
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--clock cpu tells of one thread what it computes, of ${count} how long they wait for each other, too. Give --threads 1.`,
    );
  process.env.OMP_NUM_THREADS = String(count);
  return count;
}

export const THREADS_OPTION = {
  type: 'number',
  default: 0,
  requiresArg: true,
  coerce: wholeNumber('threads', 0, MOST_THREADS),
  describe: 'Threads; 0 for all cores.',
} as const;

export const CLOCK_OPTION = {
  type: 'string',
  choices: ['wall', 'cpu'],
  default: 'wall',
  requiresArg: true,
  describe: 'What time is measured by: the wall’s, or, with --threads 1, what the process computes.',
} as const;
