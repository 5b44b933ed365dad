/** `sluice resume`: goes on with a run from its newest sound checkpoint. */

import { defineCommand } from '../cli/command.ts';
import {
  BESIDE_OPTIONS,
  METRICS_PORT_OPTION,
  SET_OPTION,
  STOP_OPTIONS,
  WORKERS_OPTION,
} from '../cli/options.ts';

interface ResumeArguments {
  readonly run: string;
  readonly workers?: number;
  readonly allow?: string[];
  readonly set?: string[];
  readonly fromScratch?: boolean;
  readonly untilStep?: number;
  readonly moreSteps?: number;
  readonly metricsPort?: number;
  readonly watch?: boolean;
  readonly watchPort?: number;
}

export const resumeCommand = defineCommand<ResumeArguments>({
  name: 'resume',
  describe: 'Go on with a run from its newest sound checkpoint, on as many workers as asked.',
  positionals: {
    run: { type: 'string', demandOption: true, describe: 'Directory of the run.' },
  },
  options: {
    workers: WORKERS_OPTION,
    allow: {
      type: 'string',
      array: true,
      requiresArg: true,
      describe: 'Key whose change is meant, though it makes this another run from here on. May be repeated.',
    },
    set: SET_OPTION,
    'from-scratch': {
      type: 'boolean',
      describe: 'Begin anew at step 0, where no checkpoint of the run can be used any more.',
    },
    ...STOP_OPTIONS,
    'metrics-port': METRICS_PORT_OPTION,
    ...BESIDE_OPTIONS,
  },
  examples: [
    ['sluice resume runs/quickstart', 'Go on where the run stopped.'],
    ['sluice resume runs/quickstart --workers 4', 'The same bits, on four workers.'],
    ['sluice resume runs/quickstart --until-step 400', 'Go on, and stop after step 400 of the run.'],
    ['sluice resume runs/quickstart --more-steps 100', 'Go on, and stop after 100 more steps.'],
    [
      'sluice resume runs/quickstart --set training.steps=2000 --allow training.steps',
      'Make the run longer, which changes its schedule.',
    ],
  ],
  async run(args, context) {
    const { resumeRun } = await import('../coordinator/resumeRun.ts');
    return resumeRun(args, context.log);
  },
});
