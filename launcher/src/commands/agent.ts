/** `sluice agent`: lets a host take part in a run. */

import { defineCommand } from '../cli/command.ts';
import {
  atLeast,
  COLLECT_OPTION,
  configFile,
  METRICS_HOST_OPTION,
  METRICS_PORT_OPTION,
  wholeNumber,
} from '../cli/options.ts';
import { schedulerExitCode } from '../fleet/exitCode.ts';

interface AgentArguments {
  readonly join?: string;
  readonly keyFile?: string;
  readonly stdio?: boolean;
  readonly node?: string;
  readonly nodeRank?: number;
  readonly nodes?: number;
  readonly advertise?: string;
  readonly slots?: number;
  readonly lead?: string;
  readonly runDir?: string;
  readonly collect?: boolean;
  readonly patience: number;
  readonly preemption?: string;
  readonly metricsPort?: number;
  readonly metricsHost?: string;
  readonly runMetricsPort?: number;
}

export const agentCommand = defineCommand<AgentArguments>({
  name: 'agent',
  describe: 'Let this host take part in a run: start workers as its coordinator says. One a host.',
  positionals: {},
  options: {
    join: {
      type: 'string',
      requiresArg: true,
      describe: 'Where the coordinator listens, or will: tcp://HOST:PORT.',
    },
    'key-file': {
      type: 'string',
      requiresArg: true,
      conflicts: 'stdio',
      describe: 'Key of the run’s connections between hosts.',
    },
    stdio: {
      type: 'boolean',
      describe: 'Read place and key from standard input, and end when that ends. What ssh is told to start.',
    },
    node: {
      type: 'string',
      requiresArg: true,
      describe: 'What this host is called; its own name when left out.',
    },
    'node-rank': {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('node-rank', 0),
      describe: 'Place of this host among the nodes; by their names when left out.',
    },
    nodes: {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('nodes', 1),
      describe: 'Nodes of the run, with --lead.',
    },
    advertise: {
      type: 'string',
      requiresArg: true,
      describe:
        'Number by which other hosts reach this one; that of its way to the coordinator when left out.',
    },
    slots: {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('slots', 1),
      describe: 'Workers that this host takes at most; any number when left out.',
    },
    lead: {
      type: 'string',
      requiresArg: true,
      coerce: configFile,
      describe: 'Configuration of a run whose coordinator the agent of node 0 starts beside itself.',
    },
    'run-dir': { type: 'string', requiresArg: true, describe: 'Directory of that run.' },
    collect: { ...COLLECT_OPTION, implies: 'lead' },
    patience: {
      type: 'number',
      requiresArg: true,
      default: 600,
      coerce: atLeast('patience', 1),
      describe: 'Seconds that the coordinator may be away, before the agent ends with exit code 75.',
    },
    preemption: {
      type: 'string',
      requiresArg: true,
      describe:
        'File or URL that tells, by being there, that this machine is to be taken away: the run is saved.',
    },
    'metrics-port': {
      ...METRICS_PORT_OPTION,
      describe: 'Serve metrics of this host for Prometheus at this port, 0 for a free one.',
    },
    'metrics-host': METRICS_HOST_OPTION,
    'run-metrics-port': {
      ...METRICS_PORT_OPTION,
      implies: 'lead',
      describe:
        'Have the coordinator that it starts serve those of the run at this port, at the same address.',
    },
  },
  examples: [
    [
      'sluice agent --join tcp://10.0.0.1:7700 --key-file run.key',
      'Take part in the run that is coordinated there.',
    ],
    [
      'sluice agent --join tcp://node-0:7700 --key-file run.key --node-rank 1 --nodes 4 --lead train.yaml --run-dir runs/a',
      'The same command on every node of a scheduler; that of node 0 starts the coordinator too.',
    ],
  ],
  exitCodeOf: schedulerExitCode,
  async run(args, context) {
    const { runAgent } = await import('../fleet/runAgent.ts');
    return runAgent(args, context.log);
  },
});
