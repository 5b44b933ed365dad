/** `sluice train`: starts a new run. */

import { defineCommand } from '../cli/command.ts';
import {
  BACKEND_OPTION,
  BESIDE_OPTIONS,
  configFile,
  EXPERT_PARALLEL_OPTION,
  METRICS_PORT_OPTION,
  PRECISION_OPTION,
  SET_OPTION,
  STOP_OPTIONS,
  WORKER_THREADS_OPTION,
  WORKERS_OPTION,
} from '../cli/options.ts';

interface TrainArguments {
  readonly config: string;
  readonly set?: string[];
  readonly from?: string;
  readonly fromMissing?: string;
  readonly workers?: number;
  readonly expertParallel?: number;
  readonly threads?: number;
  readonly runDir?: string;
  readonly backend?: string;
  readonly precision?: string;
  readonly untilStep?: number;
  readonly moreSteps?: number;
  readonly metricsPort?: number;
  readonly watch?: boolean;
  readonly watchPort?: number;
}

export const trainCommand = defineCommand<TrainArguments>({
  name: 'train',
  describe: 'Train a model from a configuration, in a new run directory.',
  positionals: {
    config: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe: 'Configuration of the run (YAML).',
    },
  },
  options: {
    set: SET_OPTION,
    from: {
      type: 'string',
      requiresArg: true,
      describe:
        'Begin with the weights of a run, a checkpoint or a Hugging Face model; with a new optimizer, unless --set initialize.optimizer=keep.',
    },
    'from-missing': {
      type: 'string',
      choices: ['refuse', 'initialize'],
      requiresArg: true,
      describe: 'What is done about tensors that those weights lack; initialize: as in a new model.',
    },
    workers: WORKERS_OPTION,
    'expert-parallel': EXPERT_PARALLEL_OPTION,
    threads: WORKER_THREADS_OPTION,
    'run-dir': {
      type: 'string',
      requiresArg: true,
      describe: 'Directory of the run; runs/NAME when left out.',
    },
    backend: BACKEND_OPTION,
    precision: PRECISION_OPTION,
    ...STOP_OPTIONS,
    'metrics-port': METRICS_PORT_OPTION,
    ...BESIDE_OPTIONS,
  },
  examples: [
    ['sluice train configs/quickstart.yaml', 'Train the quickstart model.'],
    ['sluice train configs/quickstart.yaml --watch', 'The same with a live page beside.'],
    [
      'sluice train configs/quickstart.yaml --workers 4 --set optimizer.learningRate=2e-3 --run-dir runs/fast',
      'The same on four workers, with another learning rate.',
    ],
    [
      'sluice train configs/quickstart.yaml --from runs/quickstart --run-dir runs/longer --set data.sequenceLength=256 model.ropeTheta=1e5',
      'Train on from the weights of a run, on longer sequences.',
    ],
  ],
  async run(args, context) {
    const { startRun } = await import('../coordinator/startRun.ts');
    return startRun(args, context.log);
  },
});
