/** Flags of the benchmarks. */

import { wholeNumber } from '../cli/options.ts';

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
