/** `sluice tensorboard`: event files of a run. */

import { defineCommand } from '../cli/command.ts';

interface TensorboardArguments {
  readonly run: string;
  readonly out?: string;
}

export const tensorboardCommand = defineCommand<TensorboardArguments>({
  name: 'tensorboard',
  describe: 'Write event files for TensorBoard from the logs of a run.',
  positionals: {
    run: { type: 'string', demandOption: true, describe: 'Directory of the run.' },
  },
  options: {
    out: {
      type: 'string',
      requiresArg: true,
      describe: 'Folder of the files, which must hold none; tensorboard in the run when left out.',
    },
  },
  examples: [
    ['sluice tensorboard runs/quickstart', 'Then: tensorboard --logdir runs'],
    ['sluice tensorboard runs/quickstart --out /shared/tb/quickstart', 'Elsewhere.'],
  ],
  async run({ run, out }, { log }) {
    return (await import('../run/tensorboard.ts')).writeTensorboard(run, out, log);
  },
});
