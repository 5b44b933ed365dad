/** What the commands that carry out experiments are told. */

import type { Scale } from '@sluice/model';
import { SCALE_OPTION, wholeNumber } from './options.ts';

export interface ExperimentArguments {
  readonly experiment: string;
  readonly scale?: Scale;
  readonly seeds?: number;
  readonly rows?: string;
  readonly jobs?: number;
  readonly threads?: number;
  readonly directory: string;
  readonly keepCheckpoints?: boolean;
}

export const EXPERIMENT_OPTIONS = {
  scale: SCALE_OPTION,
  seeds: {
    type: 'number',
    requiresArg: true,
    coerce: wholeNumber('seeds', 1),
    describe: 'Runs of each row, with the seeds 1, 2, …; as the experiment says when left out.',
  },
  rows: {
    type: 'string',
    requiresArg: true,
    describe: 'Names of rows, separated by commas; all when left out.',
  },
  jobs: {
    type: 'number',
    requiresArg: true,
    coerce: wholeNumber('jobs', 1),
    describe: 'Runs at a time; as many as there are cores for when left out.',
  },
  threads: {
    type: 'number',
    requiresArg: true,
    coerce: wholeNumber('threads', 1),
    describe: 'Threads of each run; the cores are shared out when left out. Changes no bit of the result.',
  },
  directory: {
    type: 'string',
    default: 'experiments',
    requiresArg: true,
    describe: 'Where runs and results are kept. Runs that experiments have in common are there once.',
  },
  'keep-checkpoints': {
    type: 'boolean',
    describe: 'Keep the checkpoints of runs that are done and measured.',
  },
} as const;

/** As the work takes them. */
export function experimentOptions({ rows, scale = 'full', ...others }: ExperimentArguments) {
  const names = rows
    ?.split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  return { ...others, scale, rows: names };
}
