/** The flags of `sluice evaluate --task`. */

import type { LongContextTask } from '@sluice/evaluate';
import { wholeNumber } from './options.ts';

/** What `LONG_CONTEXT_OPTIONS` are read as; undefined where a flag was not given. */
export interface LongContextArguments {
  readonly task?: LongContextTask;
  readonly length?: number[];
  readonly depths?: number[];
  readonly samples?: number;
  readonly needles?: number;
  readonly chains?: number;
  readonly hops?: number;
  readonly haystack?: 'noise' | 'text';
  readonly seed?: number;
}

const ofTask = { requiresArg: true, implies: 'task' } as const;

export const LONG_CONTEXT_OPTIONS = {
  task: {
    type: 'string',
    choices: ['niah', 'vt'],
    requiresArg: true,
    conflicts: 'sequence-length',
    describe:
      'Measure retrieval from a long context in place of perplexity: niah, needle in a haystack; vt, variable tracking.',
  },
  length: {
    type: 'string',
    ...ofTask,
    coerce: lengths,
    describe:
      'Tokens of a prompt with its answer, with commas between: 512,1k,2k (k is 1024). What the model is meant for by default.',
  },
  depths: {
    type: 'string',
    ...ofTask,
    coerce: depths,
    describe:
      'Where the needle stands, from 0, the beginning of the haystack, to 1. 0,0.25,0.5,0.75,1 by default.',
  },
  samples: {
    type: 'number',
    ...ofTask,
    coerce: wholeNumber('samples', 1),
    describe: 'Prompts at each length and depth; 20 by default.',
  },
  needles: {
    type: 'number',
    ...ofTask,
    coerce: wholeNumber('needles', 1, 64),
    describe: 'Needles in a haystack, of which one is asked for; 8 by default.',
  },
  chains: {
    type: 'number',
    ...ofTask,
    coerce: wholeNumber('chains', 2, 20),
    describe: 'Chains of variables, of which one is asked for; 2 by default.',
  },
  hops: {
    type: 'number',
    ...ofTask,
    coerce: wholeNumber('hops', 0, 15),
    describe: 'Links of a chain after its first variable; 2 by default.',
  },
  haystack: {
    type: 'string',
    choices: ['noise', 'text'],
    ...ofTask,
    describe:
      'What is hidden in: a few sentences again and again, or the text that --split, --data or --text name. noise where none is named.',
  },
  seed: {
    type: 'number',
    ...ofTask,
    coerce: wholeNumber('seed', 0),
    describe: 'Seed of the prompts; 0 by default.',
  },
} as const;

function lengths(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  const parts = String(value).split(',');
  if (parts.every((part) => /^[1-9]\d{0,8}k?$/.test(part)))
    return parts.map((part) => Number.parseInt(part, 10) * (part.endsWith('k') ? 1024 : 1));
  throw new Error(
    `--length is ${String(value)}, not numbers of tokens with commas between, as in 512,1k,2k.`,
  );
}

function depths(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  const parts = String(value).split(',');
  if (parts.every((part) => /^\d*\.?\d+$/.test(part) && Number(part) <= 1)) return parts.map(Number);
  throw new Error(
    `--depths is ${String(value)}, not numbers from 0 to 1 with commas between, as in 0,0.5,1.`,
  );
}
