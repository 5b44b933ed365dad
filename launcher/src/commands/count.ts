/** `sluice count`: parameters and arithmetic of a model. */

import type { Scale } from '@sluice/model';
import { defineCommand } from '../cli/command.ts';
import { configFile, MODEL_SET_OPTION, SCALE_OPTION } from '../cli/options.ts';

interface CountArguments {
  readonly model: string;
  readonly set?: string[];
  readonly baseline?: string;
  readonly scale?: Scale;
}

export const countCommand = defineCommand<CountArguments>({
  name: 'count',
  describe: 'Count the parameters of a model (total, active, by part) and its arithmetic a token.',
  positionals: {
    model: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe:
        'Model (YAML); or the configuration of a run, of which the model section is taken; or an experiment, of which every row is counted.',
    },
  },
  options: {
    set: MODEL_SET_OPTION,
    baseline: {
      type: 'string',
      requiresArg: true,
      coerce: configFile,
      describe: 'Another model, to tell the parameters added over it.',
    },
    scale: SCALE_OPTION,
  },
  examples: [
    ['sluice count configs/quickstart.yaml', 'Count the model of the quickstart.'],
    [
      'sluice count configs/models/15b-a2b/sdpa-headwise.yaml --baseline configs/models/15b-a2b.yaml',
      'What the gate adds.',
    ],
    [
      'sluice count configs/quickstart.yaml --baseline configs/quickstart.yaml --set model.experts.count=32',
      'What more experts add.',
    ],
    ['sluice count configs/paper/table1.yaml', 'What each row adds, beside the paper’s number.'],
  ],
  async run({ model, baseline, set = [], ...flags }, { log }) {
    const { countModel } = await import('../run/countModel.ts');
    const { withModelOfWeights } = await import('../run/runConfig.ts');
    return countModel(model, baseline, { ...flags, set: await withModelOfWeights(model, set, log) });
  },
});
