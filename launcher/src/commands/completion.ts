/** `sluice completion`: lets a shell complete command lines. */

import { basename } from 'node:path';
import { defineCommand } from '../cli/command.ts';
import { SHELL_SCRIPTS } from '../cli/completion.ts';

type Shell = keyof typeof SHELL_SCRIPTS;

export const completionCommand = defineCommand<{ readonly shell?: Shell }>({
  name: 'completion',
  describe: 'Print a script by which bash, zsh or fish complete commands, flags, runs and keys.',
  positionals: {},
  options: {
    shell: {
      type: 'string',
      choices: Object.keys(SHELL_SCRIPTS),
      requiresArg: true,
      describe: 'Which one; that of the variable SHELL when left out.',
    },
  },
  examples: [
    ['sluice completion --shell bash >> ~/.bashrc', 'For bash.'],
    ['sluice completion --shell fish > ~/.config/fish/completions/sluice.fish', 'For fish.'],
  ],
  async run({ shell }) {
    const own = basename(process.env.SHELL ?? 'bash');
    const chosen = shell ?? (own in SHELL_SCRIPTS ? (own as Shell) : 'bash');
    return { text: SHELL_SCRIPTS[chosen], json: { shell: chosen, script: SHELL_SCRIPTS[chosen] } };
  },
});
