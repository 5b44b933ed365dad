/** `sluice verify-resume`: proves that faults change no bit of a run. */

import { defineCommand } from '../cli/command.ts';
import {
  configFile,
  EXPERT_PARALLEL_OPTION,
  SET_OPTION,
  WORKER_THREADS_OPTION,
  WORKERS_OPTION,
  wholeNumber,
} from '../cli/options.ts';

interface VerifyResumeArguments {
  readonly config: string;
  readonly kills: number;
  readonly seed: number;
  readonly agents: number;
  readonly runDir?: string;
  readonly set?: string[];
  readonly workers?: number;
  readonly expertParallel?: number;
  readonly threads?: number;
}

export const verifyResumeCommand = defineCommand<VerifyResumeArguments>({
  name: 'verify-resume',
  describe:
    'Train quietly, then while workers, hosts and the coordinator are killed, frozen, cut off and resized at random, and compare the weights.',
  positionals: {
    config: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe: 'Configuration of the run (YAML); a short one.',
    },
  },
  options: {
    kills: {
      type: 'number',
      requiresArg: true,
      default: 20,
      coerce: wholeNumber('kills', 1),
      describe: 'Faults in all, over as many runs as they need.',
    },
    seed: {
      type: 'number',
      requiresArg: true,
      default: 1,
      coerce: wholeNumber('seed', 0),
      describe: 'Draws what is done to whom, and when.',
    },
    agents: {
      type: 'number',
      requiresArg: true,
      default: 0,
      alias: 'hosts',
      coerce: wholeNumber('agents', 0, 64),
      describe:
        'Agents on this machine that stand for hosts, and are killed, frozen and cut off too; 0 for workers of the coordinator itself.',
    },
    'run-dir': {
      type: 'string',
      requiresArg: true,
      describe: 'Where the runs are kept; they are removed when left out and all is well.',
    },
    set: SET_OPTION,
    workers: WORKERS_OPTION,
    'expert-parallel': EXPERT_PARALLEL_OPTION,
    threads: WORKER_THREADS_OPTION,
  },
  examples: [
    [
      'sluice verify-resume configs/quickstart.yaml --set training.steps=60 schedule.warmupSteps=5 checkpoint.everySteps=10 --kills 10',
      'Ten faults.',
    ],
    [
      'sluice verify-resume my.yaml --kills 50 --workers 4 --agents 3 --seed 7',
      'Fifty, on three agents that stand for hosts.',
    ],
  ],
  async run(args, context) {
    const { verifyResume } = await import('../chaos/verifyResume.ts');
    return verifyResume(args, context.log);
  },
});
