/** `sluice mlflow`: tells an MLflow server of a run. */

import { defineCommand } from '../cli/command.ts';

interface MlflowArguments {
  readonly run: string;
  readonly url?: string;
  readonly experiment: string;
  readonly follow?: boolean;
}

export const mlflowCommand = defineCommand<MlflowArguments>({
  name: 'mlflow',
  describe: 'Tell an MLflow server of a run, from its logs: what was told before is not told again.',
  positionals: {
    run: { type: 'string', demandOption: true, describe: 'Directory of the run.' },
  },
  options: {
    url: {
      type: 'string',
      requiresArg: true,
      describe: 'Address of the server; that of MLFLOW_TRACKING_URI when left out.',
    },
    experiment: {
      type: 'string',
      default: 'sluice',
      requiresArg: true,
      describe: 'Name of the experiment there; made if need be.',
    },
    follow: { type: 'boolean', describe: 'Go on until the run ends; a server that is away is waited for.' },
  },
  examples: [
    ['sluice mlflow runs/quickstart --url http://localhost:5000', 'A run that is there.'],
    ['sluice mlflow runs/quickstart --follow', 'A run that goes on, at the server of MLFLOW_TRACKING_URI.'],
  ],
  async run({ run, ...options }, { log }) {
    return (await import('../run/mlflow.ts')).tellMlflow(run, options, log);
  },
});
