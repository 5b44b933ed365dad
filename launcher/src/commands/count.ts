/** `sluice count`: parameters and arithmetic of a model. */

import { defineCommand } from '../cli/command.ts';

interface CountArguments {
  readonly model: string;
  readonly baseline?: string;
}

export const countCommand = defineCommand<CountArguments>({
  name: 'count',
  describe: 'Count the parameters of a model (total, active, by part) and its arithmetic a token.',
  positionals: {
    model: {
      type: 'string',
      demandOption: true,
      describe: 'Model (YAML), or the configuration of a run, of which the model section is taken.',
    },
  },
  options: {
    baseline: {
      type: 'string',
      requiresArg: true,
      describe: 'Another model, to tell the parameters added over it.',
    },
  },
  examples: [
    ['sluice count configs/quickstart.yaml', 'Count the model of the quickstart.'],
    ['sluice count gated.yaml --baseline plain.yaml', 'What the gate adds.'],
  ],
  async run({ model, baseline }) {
    const { countModel } = await import('../run/countModel.ts');
    return countModel(model, baseline);
  },
});
