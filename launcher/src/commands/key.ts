/** `sluice key`: makes the key of connections between hosts, where something else than `sluice launch` starts the agents. */

import { defineCommand } from '../cli/command.ts';

interface KeyArguments {
  readonly file: string;
}

export const keyCommand = defineCommand<KeyArguments>({
  name: 'key',
  describe: 'Make a key for the connections between hosts, in a new file that only you can read.',
  positionals: {
    file: { type: 'string', demandOption: true, describe: 'File to make, for --key-file.' },
  },
  options: {},
  examples: [['sluice key run.key', 'Make a key, for agents that a script of yours starts.']],
  async run({ file }) {
    const { newKeyFile } = await import('../fleet/keyFile.ts');
    const { publicKey } = newKeyFile(file);
    return { json: { file, publicKey }, text: `made ${file}` };
  },
});
