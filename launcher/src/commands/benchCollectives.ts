/** `sluice bench collectives`: the bandwidth of collective operations between processes. */

import type { MeasuredOperation } from '@sluice/collectives';
import { defineCommand } from '../cli/command.ts';
import { atLeast, wholeNumber } from '../cli/options.ts';

/** More than any one machine is meant to run; each is a process of its own. */
const MOST_PROCESSES = 256;

/** By the names of the flag. */
const OPERATIONS: Readonly<Record<string, MeasuredOperation>> = {
  'all-reduce': 'allReduce',
  'reduce-scatter': 'reduceScatter',
  'all-gather': 'allGather',
  'all-to-all': 'allToAll',
};

interface BenchCollectivesArguments {
  readonly operation: string;
  readonly world: number;
  readonly mib: number;
}

export const benchCollectivesCommand = defineCommand<BenchCollectivesArguments>({
  name: 'bench collectives',
  describe: 'Measure a collective operation between worker processes on this machine.',
  positionals: {},
  options: {
    operation: {
      type: 'string',
      choices: Object.keys(OPERATIONS),
      default: 'all-reduce',
      requiresArg: true,
      describe: 'What is measured.',
    },
    world: {
      type: 'number',
      default: 2,
      requiresArg: true,
      coerce: wholeNumber('world', 1, MOST_PROCESSES),
      describe: 'Processes.',
    },
    mib: {
      type: 'number',
      default: 64,
      requiresArg: true,
      coerce: atLeast('mib', 0.001),
      describe: 'Size of the buffer that each process holds, MiB.',
    },
  },
  examples: [
    ['sluice bench collectives --world 2 --mib 64', 'Two processes, 64 MiB each.'],
    [
      'sluice bench collectives --operation all-gather --world 4 --mib 16',
      'Four gather a quarter of 16 MiB each.',
    ],
  ],
  async run({ operation: name, world, mib }) {
    const { benchCollectives } = await import('@sluice/collectives');
    const { terminalTable } = await import('@sluice/observe');
    const { interruptible } = await import('../signals/interruptible.ts');
    const measured = await interruptible((signal) =>
      benchCollectives({ operation: OPERATIONS[name]!, world, mib, signal }),
    );
    const rows = [
      ['bus bandwidth, GB/s', measured.busGBps.toFixed(2)],
      ['median, ms', measured.medianMs.toFixed(1)],
      ['fastest, ms', measured.minMs.toFixed(1)],
      ['waiting for a process to begin, ms', measured.waitingMs.toFixed(1)],
      ['moving and adding, ms', measured.movingMs.toFixed(1)],
      ['processor time of a process, ms', measured.cpuMs.toFixed(1)],
    ];
    return {
      json: { ...measured },
      text: terminalTable(rows, {
        header: [`${name}, ${world} processes`, `${mib} MiB`],
        align: ['left', 'right'],
      }),
    };
  },
});
