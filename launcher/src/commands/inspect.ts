/** `sluice inspect`: what is in a run directory. */

import { defineCommand } from '../cli/command.ts';
import { wholeNumber } from '../cli/options.ts';

interface InspectArguments {
  readonly run: string;
  readonly step?: number;
}

export const inspectCommand = defineCommand<InspectArguments>({
  name: 'inspect',
  describe: 'Show what is in a run: checkpoints, decisions, spikes; with a step, what its batch held.',
  positionals: {
    run: { type: 'string', demandOption: true, describe: 'Directory of the run.' },
  },
  options: {
    step: {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('step', 1),
      describe: 'Step whose documents and shards are listed, with its loss.',
    },
  },
  examples: [
    ['sluice inspect runs/quickstart', 'Checkpoints (valid, or why not), journal, spikes.'],
    ['sluice inspect runs/quickstart --step 120', 'The documents that the batch of step 120 held.'],
  ],
  async run({ run, step }, { log }) {
    const { inspectRun, inspectStep } = await import('../run/inspect.ts');
    return step === undefined ? inspectRun(run) : inspectStep(run, step, log);
  },
});
