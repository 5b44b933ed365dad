/** `sluice bench collectives`: the bandwidth of collective operations between processes. */

import type { MeasuredOperation, Protection } from '@sluice/collectives';
import { defineCommand } from '../cli/command.ts';
import { atLeast, HOSTS_OPTION, SSH_COMMAND_OPTION, wholeNumber } from '../cli/options.ts';

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
  readonly world?: number;
  readonly mib: number;
  readonly hosts?: string;
  readonly sshCommand?: string;
  readonly protection?: Protection;
}

export const benchCollectivesCommand = defineCommand<BenchCollectivesArguments>({
  name: 'bench collectives',
  describe: 'Measure a collective operation between worker processes, on this machine or on several hosts.',
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
      requiresArg: true,
      coerce: wholeNumber('world', 2, MOST_PROCESSES),
      describe: 'Processes, two at least; two by default, with --hosts one on each.',
    },
    mib: {
      type: 'number',
      default: 64,
      requiresArg: true,
      coerce: atLeast('mib', 0.001),
      describe: 'Size of the buffer that each process holds, MiB.',
    },
    hosts: {
      ...HOSTS_OPTION,
      describe:
        'Hosts to measure between, by ssh: a file of hosts, a configuration, or the directory of a run. Processes are placed and connected as a run’s are.',
    },
    'ssh-command': { ...SSH_COMMAND_OPTION, implies: 'hosts' },
    protection: {
      type: 'string',
      choices: ['encrypted', 'authenticated'],
      requiresArg: true,
      implies: 'hosts',
      describe: 'In place of hosts.protection of the configuration.',
    },
  },
  examples: [
    ['sluice bench collectives --world 2 --mib 64', 'Two processes, 64 MiB each.'],
    [
      'sluice bench collectives --operation all-gather --world 4 --mib 16',
      'Four gather a quarter of 16 MiB each.',
    ],
    ['sluice bench collectives --hosts hosts.txt', 'A process on each host of a file.'],
    [
      'sluice bench collectives --hosts hosts.txt --protection authenticated',
      'The same by connections that are not encrypted.',
    ],
  ],
  async run({ operation: name, world, mib, hosts, sshCommand, protection }, { log }) {
    const { terminalTable } = await import('@sluice/observe');
    const { interruptible } = await import('../signals/interruptible.ts');
    const operation = OPERATIONS[name]!;
    const { namedHosts } = await import('../fleet/namedHosts.ts');
    const { benchCollectives } = await import('../bench/collectives.ts');
    const on = hosts === undefined ? undefined : namedHosts(hosts, sshCommand);
    const measured = await interruptible((signal) =>
      benchCollectives({ on, operation, world, mib, protection, signal, log }),
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
        header: [`${name}, ${measured.world} processes`, `${mib} MiB`],
        align: ['left', 'right'],
      }),
    };
  },
});
