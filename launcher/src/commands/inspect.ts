/** `sluice inspect`: what is in a run directory. */

import { defineCommand } from '../cli/command.ts';
import { INFERENCE_OPTIONS, type InferenceArguments, wholeNumber } from '../cli/options.ts';

interface InspectArguments extends InferenceArguments {
  readonly run: string;
  readonly step?: number;
  readonly losses?: boolean;
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
    losses: {
      type: 'boolean',
      implies: 'step',
      describe:
        'With a step: the loss of each document of its batch, highest first, under the newest sound checkpoint that is no later.',
    },
    backend: {
      ...INFERENCE_OPTIONS.backend,
      implies: 'losses',
    },
    precision: {
      ...INFERENCE_OPTIONS.precision,
      implies: 'losses',
    },
  },
  examples: [
    ['sluice inspect runs/quickstart', 'Checkpoints (valid, or why not), journal, spikes.'],
    ['sluice inspect runs/quickstart --step 120', 'The documents that the batch of step 120 held.'],
    ['sluice inspect runs/quickstart --step 120 --losses', 'The same by their losses, the worst first.'],
  ],
  async run({ run, step, losses = false, ...computing }, { log }) {
    if (step === undefined) return (await import('../run/inspect.ts')).inspectRun(run);
    const { inspectStep } = await import('../run/inspectStep.ts');
    return inspectStep(run, step, { losses, ...computing }, log);
  },
});
