/** `sluice experiment`: rows and seeds of an experiment as runs side by side, and what was found. */

import { defineCommand } from '../cli/command.ts';
import { EXPERIMENT_OPTIONS, type ExperimentArguments, experimentOptions } from '../cli/experimentOptions.ts';
import { configFile } from '../cli/options.ts';

export const experimentCommand = defineCommand<ExperimentArguments>({
  name: 'experiment',
  describe: 'Run an experiment’s rows with several seeds, side by side; what is done is not run again.',
  positionals: {
    experiment: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe: 'The experiment: a base configuration and rows that change it (YAML).',
    },
  },
  options: EXPERIMENT_OPTIONS,
  examples: [
    [
      'sluice experiment configs/paper/table4.yaml --scale tiny',
      'The paper’s table of sinks and gates on a laptop.',
    ],
    [
      'sluice experiment configs/paper/table1.yaml --scale tiny --rows baseline,sdpa-elementwise --seeds 5',
      'Two of its rows, with five seeds each.',
    ],
    [
      'sluice experiment my.yaml --jobs 4 --threads 2 --directory /data/experiments --json',
      'Four runs of two threads at a time, kept elsewhere.',
    ],
  ],
  async run(args, { log }) {
    const { runExperiment } = await import('../experiment/experiment.ts');
    return runExperiment(experimentOptions(args), log);
  },
});
