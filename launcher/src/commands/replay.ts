/** `sluice replay`: a step of a run, computed again by others. */

import { defineCommand } from '../cli/command.ts';
import { WORKER_THREADS_OPTION, WORKERS_OPTION, wholeNumber } from '../cli/options.ts';

interface ReplayArguments {
  readonly run: string;
  readonly step: number;
  readonly workers?: number;
  readonly threads?: number;
}

export const replayCommand = defineCommand<ReplayArguments>({
  name: 'replay',
  describe:
    'Compute a step of a run again, from the checkpoint before it and on other workers, and compare the bits. Exits with 1 where they differ.',
  positionals: {
    run: { type: 'string', demandOption: true, describe: 'Directory of the run; nothing in it is changed.' },
  },
  options: {
    step: {
      type: 'number',
      requiresArg: true,
      demandOption: true,
      coerce: wholeNumber('step', 1),
      describe: 'Step that is computed again.',
    },
    workers: WORKERS_OPTION,
    threads: WORKER_THREADS_OPTION,
  },
  examples: [
    ['sluice replay runs/quickstart --step 300', 'Whether a machine or the data made step 300 what it was.'],
    ['sluice replay runs/quickstart --step 300 --workers 4 --json', 'On four workers, as JSON.'],
  ],
  async run(args, { log }) {
    const { replayStep } = await import('../coordinator/replay.ts');
    return replayStep(args, log);
  },
});
