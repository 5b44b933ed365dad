/** `sluice plan`: what a run will need before it is started. */

import type { BackendName, Precision } from '@sluice/engine';
import type { Scale } from '@sluice/model';
import { defineCommand } from '../cli/command.ts';
import {
  BACKEND_OPTION,
  configFile,
  MODEL_SET_OPTION,
  PRECISION_OPTION,
  SCALE_OPTION,
  WORKERS_OPTION,
  wholeNumber,
} from '../cli/options.ts';

interface PlanArguments {
  readonly model: string;
  readonly set?: string[];
  readonly workers?: number;
  readonly expertParallel?: number;
  readonly device: 'h100' | 'h200' | 'a100' | 'cpu';
  readonly sequenceLength?: number;
  readonly batch?: number;
  readonly grain?: number;
  readonly scale?: Scale;
  readonly backend?: BackendName;
  readonly precision?: Precision;
}

const count = (flag: string, describe: string) =>
  ({ type: 'number', requiresArg: true, coerce: wholeNumber(flag, 1), describe }) as const;

export const planCommand = defineCommand<PlanArguments>({
  name: 'plan',
  describe:
    'Predict the memory of a worker, the bytes exchanged in a step, its time and the utilization of the devices.',
  positionals: {
    model: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe:
        'Model (YAML), or the configuration of a run, whose batch and layout count where no flag does.',
    },
  },
  options: {
    set: MODEL_SET_OPTION,
    workers: WORKERS_OPTION,
    'expert-parallel': count('expert-parallel', 'Workers that share one set of experts.'),
    device: {
      type: 'string',
      requiresArg: true,
      choices: ['h100', 'h200', 'a100', 'cpu'],
      default: 'cpu',
      describe: 'What each worker has; cpu: all share this machine, whose speed is measured.',
    },
    'sequence-length': count('sequence-length', 'Tokens of a sequence.'),
    batch: count('batch', 'Sequences in the global batch of a step.'),
    grain: count('grain', 'Sequences of one grain, whose activations are in memory at once.'),
    scale: SCALE_OPTION,
    backend: {
      ...BACKEND_OPTION,
      describe:
        'What computes, if it is not what the configuration says; cuda: memory of a GPU, and of the host beside it.',
    },
    precision: PRECISION_OPTION,
  },
  examples: [
    [
      'sluice plan configs/models/15b-a2b.yaml --workers 64 --expert-parallel 8 --device h100',
      'Whether the paper’s mixture of experts fits, and how fast it may train.',
    ],
    [
      'sluice plan configs/models/15b-a2b.yaml --workers 8 --expert-parallel 8 --device h100 --backend cuda',
      'What lies on each GPU, in bf16, and what in the memory of the host.',
    ],
    ['sluice plan configs/quickstart.yaml --workers 2', 'The quickstart on this machine.'],
    [
      'sluice plan configs/models/1.7b-28l.yaml --workers 8 --device h100 --set model.hiddenSize=4096 optimizer.kind=muon',
      'A wider model than that of the file, with another optimizer.',
    ],
  ],
  async run({ model, set = [], ...flags }, { log }) {
    const { planModel } = await import('../run/planModel.ts');
    const { withModelOfWeights } = await import('../run/runConfig.ts');
    return planModel(model, { ...flags, set: await withModelOfWeights(model, set, log) });
  },
});
