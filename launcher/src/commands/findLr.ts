/** `sluice find-lr`: the largest learning rate that trains, of each row of an experiment. */

import { defineCommand } from '../cli/command.ts';
import { EXPERIMENT_OPTIONS, type ExperimentArguments, experimentOptions } from '../cli/experimentOptions.ts';
import { configFile } from '../cli/options.ts';

/** A search keeps no checkpoints: it has so many runs that fail. */
const { 'keep-checkpoints': _, ...PROBE_OPTIONS } = EXPERIMENT_OPTIONS;

export const findLrCommand = defineCommand<ExperimentArguments>({
  name: 'find-lr',
  describe:
    'Find the largest stable learning rate of each row of an experiment, by bisection, for each seed.',
  positionals: {
    experiment: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe: 'The experiment; its section findLr says what is looked for, and where (YAML).',
    },
  },
  options: PROBE_OPTIONS,
  examples: [
    [
      'sluice find-lr configs/experiments/edge-of-stability.yaml --scale tiny',
      'No gate, gates, sandwich norm and Muon on a laptop.',
    ],
    [
      'sluice find-lr my.yaml --rows baseline,gated --seeds 5 --json',
      'Two rows with five seeds each, as JSON.',
    ],
  ],
  async run(args, { log }) {
    const { findLearningRates } = await import('../experiment/findLr.ts');
    return findLearningRates(experimentOptions(args), log);
  },
});
