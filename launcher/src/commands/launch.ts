/** `sluice launch`: starts a run on many hosts, or goes on with it. */

import { defineCommand } from '../cli/command.ts';
import {
  BESIDE_OPTIONS,
  COLLECT_OPTION,
  configFile,
  EXPERT_PARALLEL_OPTION,
  METRICS_HOST_OPTION,
  METRICS_PORT_OPTION,
  SET_OPTION,
  SSH_COMMAND_OPTION,
  STOP_OPTIONS,
  WORKER_THREADS_OPTION,
  WORKERS_OPTION,
  wholeNumber,
} from '../cli/options.ts';
import { schedulerExitCode } from '../fleet/exitCode.ts';

interface LaunchArguments {
  readonly config: string;
  readonly on?: string;
  readonly runDir?: string;
  readonly dryRun?: boolean;
  readonly nodes?: number;
  readonly listen?: string;
  readonly advertise?: string;
  readonly keyFile?: string;
  readonly sshCommand?: string;
  readonly collect?: boolean;
  readonly set?: string[];
  readonly workers?: number;
  readonly expertParallel?: number;
  readonly threads?: number;
  readonly metricsPort?: number;
  readonly metricsHost?: string;
  readonly watch?: boolean;
  readonly watchPort?: number;
  readonly untilStep?: number;
  readonly moreSteps?: number;
}

export const launchCommand = defineCommand<LaunchArguments>({
  name: 'launch',
  describe: 'Start a run on one or many hosts, or go on with it; the same command does both.',
  positionals: {
    config: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe: 'Configuration of the run (YAML).',
    },
  },
  options: {
    on: {
      type: 'string',
      requiresArg: true,
      describe:
        'Who starts the hosts’ agents: local, ssh:FILE (a host a line), slurm or slurm:FILE, kubernetes:FILE (what the cluster is told, YAML), agents (they come by themselves). What the configuration says under hosts, else local, when left out.',
    },
    'run-dir': {
      type: 'string',
      requiresArg: true,
      describe: 'Directory of the run, which all hosts see; runs/NAME when left out.',
    },
    'dry-run': { type: 'boolean', describe: 'Print what would be started, and start nothing.' },
    nodes: {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('nodes', 1),
      describe: 'Hosts of the run, with --on agents, slurm or kubernetes.',
    },
    listen: {
      type: 'string',
      requiresArg: true,
      describe:
        'Where agents join: tcp://ADDRESS:PORT; a free port of the address that leads to the hosts by default.',
    },
    advertise: {
      type: 'string',
      requiresArg: true,
      describe: 'Number by which hosts reach this machine, where that is not found out.',
    },
    'key-file': {
      type: 'string',
      requiresArg: true,
      describe: 'Key of the connections between hosts; a new one when left out.',
    },
    'ssh-command': SSH_COMMAND_OPTION,
    collect: COLLECT_OPTION,
    set: SET_OPTION,
    workers: WORKERS_OPTION,
    'expert-parallel': EXPERT_PARALLEL_OPTION,
    threads: WORKER_THREADS_OPTION,
    'metrics-port': {
      ...METRICS_PORT_OPTION,
      coerce: wholeNumber('metrics-port', 0, 65_534),
      describe:
        'Serve metrics of the run for Prometheus at this port of the coordinator’s machine, and those of each host at the next one; 0 for free ones.',
    },
    'metrics-host': METRICS_HOST_OPTION,
    ...BESIDE_OPTIONS,
    ...STOP_OPTIONS,
  },
  examples: [
    ['sluice launch configs/quickstart.yaml --on ssh:hosts.txt --workers 4', 'Train on the hosts of a file.'],
    [
      'sluice launch configs/quickstart.yaml --on ssh:hosts.txt --dry-run',
      'Show which program would be started on which host.',
    ],
    [
      'sluice launch configs/quickstart.yaml --on slurm --nodes 2 --dry-run',
      'Show the batch script of two nodes.',
    ],
    [
      'sluice launch configs/quickstart.yaml --on agents --nodes 3 --listen tcp://0.0.0.0:7700 --key-file run.key',
      'Wait for three agents, which something else starts.',
    ],
  ],
  exitCodeOf: schedulerExitCode,
  async run(args, context) {
    const { launchRun } = await import('../coordinator/launchRun.ts');
    return launchRun(args, context.log);
  },
});
