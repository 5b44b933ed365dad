/** `sluice stop`: has a run saved and stopped, from wherever its directory can be read. */

import { defineCommand } from '../cli/command.ts';
import { RUN_HOSTS_OPTION, SSH_COMMAND_OPTION, TOKEN_OPTION } from '../cli/options.ts';
import type { StopOptions } from '../operate/stop.ts';

export const stopCommand = defineCommand<StopOptions>({
  name: 'stop',
  describe: 'Have a run saved and stopped, and wait until its processes are gone.',
  positionals: { run: { type: 'string', describe: 'Directory of the run.' } },
  options: {
    hosts: {
      ...RUN_HOSTS_OPTION,
      describe:
        'End, by ssh, what the run has left on hosts: its own, or those of a file of hosts or a configuration.',
    },
    'ssh-command': SSH_COMMAND_OPTION,
    token: { ...TOKEN_OPTION, describe: 'End the processes of this machine that carry this token of a run.' },
  },
  examples: [
    ['sluice stop runs/quickstart', 'Save it, stop it, and say which step was saved.'],
    ['sluice stop runs/quickstart --hosts hosts.txt', 'End also what it has left on its hosts.'],
  ],
  async run(args, context) {
    const { stop } = await import('../operate/stop.ts');
    return stop(args, context.log);
  },
});
