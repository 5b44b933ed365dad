/** `sluice doctor`: what this machine has, what will run, and what to mend. */

import { defineCommand } from '../cli/command.ts';

export const doctorCommand = defineCommand<object>({
  name: 'doctor',
  describe: 'Tell what this machine has, which backend will run, what is wrong and how to mend it.',
  positionals: {},
  options: {},
  examples: [['sluice doctor', 'Look at this machine.']],
  async run() {
    const { examine } = await import('../doctor/examine.ts');
    return examine();
  },
});
