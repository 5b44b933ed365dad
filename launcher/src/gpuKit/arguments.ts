/** The kit's command line. */

import { parseArgs } from 'node:util';
import { SluiceError } from '@sluice/core';
import { SCALES, type Scale } from '@sluice/engine/cuda';
import { KIT_STEPS } from './catalog.ts';

export interface KitArguments {
  readonly scale: Scale;
  /** Names of the steps, in the kit's order. */
  readonly only: readonly string[];
  /** File that gets the results. */
  readonly json: string;
  readonly show: 'help' | 'list' | undefined;
}

const NAMES = KIT_STEPS.map(({ name }) => name);

export const KIT_HELP = `npm run gpu -- [--only STEPS] [--json FILE] [--scale full|tiny] [--list] [--help]

Measures and checks Sluice's backend cuda on this machine's NVIDIA GPU, in ten minutes at most. Each step is a process of its own
with a limit; one that fails or takes too long stops no other. Results are written after every step.

  --only STEPS   only these, with commas between them
  --json FILE    gets all results; sluice-gpu.json when left out
  --scale SCALE  full: the paper's models; tiny: so small that the emulator runs it
  --list         the steps, and their limits

Examples:
  npm run gpu                                               everything
  npm run gpu -- --only probe,kernels --json bits.json      is the card right?
  SLUICE_CUDA=emulated npm run gpu -- --scale tiny          the same steps without a GPU
`;

/** @throws SLUICE_E_USAGE */
export function parseKitArguments(words: readonly string[]): KitArguments {
  const { json, only, scale, list, help } = parsed(words);
  if (scale !== 'full' && scale !== 'tiny')
    throw usage(`--scale is ${scale}, and may be ${SCALES.join(' or ')}.`);
  const wanted = only === undefined ? NAMES : only.split(',').map((name) => name.trim());
  const unknown = wanted.find((name) => !NAMES.includes(name));
  if (unknown !== undefined)
    throw usage(`There is no step ${JSON.stringify(unknown)}: there are ${NAMES.join(', ')}.`);
  return {
    ...{ scale, json },
    only: NAMES.filter((name) => wanted.includes(name)),
    show: help ? 'help' : list ? 'list' : undefined,
  };
}

function parsed(words: readonly string[]) {
  try {
    return parseArgs({
      args: [...words],
      options: {
        json: { type: 'string', default: 'sluice-gpu.json' },
        only: { type: 'string' },
        scale: { type: 'string', default: 'full' },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw usage(`${(error as Error).message} See --help.`);
  }
}

const usage = (message: string) => new SluiceError('SLUICE_E_USAGE', message);
