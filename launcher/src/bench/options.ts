/** Flags of the benchmarks. */

import { availableCores } from '@sluice/core';
import { wholeNumber } from '../cli/options.ts';

/**
 * Has OpenMP use so many threads, which it reads once, when the C++ core is loaded: nothing may have imported that before.
 * @param threads as given, 0 for all cores
 * @returns their number
 */
export function useThreads(threads: number): number {
  const count = threads === 0 ? availableCores().count : threads;
  process.env.OMP_NUM_THREADS = String(count);
  return count;
}

export const THREADS_OPTION = {
  type: 'number',
  default: 0,
  requiresArg: true,
  coerce: wholeNumber('threads', 0),
  describe: 'Threads; 0 for all cores.',
} as const;

export const CLOCK_OPTION = {
  type: 'string',
  choices: ['wall', 'cpu'],
  default: 'wall',
  requiresArg: true,
  describe: 'What time is measured by: the wall’s, or what all threads of the process compute.',
} as const;
