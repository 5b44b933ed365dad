/** `sluice ps`: what is alive of runs. */

import { defineCommand } from '../cli/command.ts';
import { RUN_HOSTS_OPTION, SSH_COMMAND_OPTION, TOKEN_OPTION } from '../cli/options.ts';
import type { PsOptions } from '../operate/ps.ts';

export const psCommand = defineCommand<PsOptions>({
  name: 'ps',
  describe: 'Show the runs that are alive; of one run, its hosts and processes, and what each is doing.',
  positionals: {
    run: {
      type: 'string',
      describe: 'Directory of a run; all runs in runs/ and on this machine when left out.',
    },
  },
  options: {
    hosts: {
      ...RUN_HOSTS_OPTION,
      describe:
        'Look through hosts, by ssh, for processes that the run has left there: its own, or those of a file of hosts or a configuration.',
    },
    'ssh-command': SSH_COMMAND_OPTION,
    token: { ...TOKEN_OPTION, describe: 'Show processes of this machine that carry this token of a run.' },
  },
  examples: [
    ['sluice ps', 'The runs that are alive.'],
    ['sluice ps runs/quickstart', 'What its coordinator and each of its workers are doing.'],
    ['sluice ps runs/quickstart --hosts', 'What is left of it on its hosts, whether it is alive or not.'],
  ],
  async run(args) {
    const { ps } = await import('../operate/ps.ts');
    return ps(args);
  },
});
