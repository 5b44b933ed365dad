/** `sluice hash`: content hashes of a checkpoint, the same for any sharding. */

import { defineCommand } from '../cli/command.ts';

interface HashArguments {
  readonly checkpoint: string;
}

export const hashCommand = defineCommand<HashArguments>({
  name: 'hash',
  describe:
    'Content hash of each logical tensor of a checkpoint and of the whole, the same for any sharding.',
  positionals: {
    checkpoint: {
      type: 'string',
      demandOption: true,
      describe: 'Directory of a checkpoint, or of a run for its newest sound one.',
    },
  },
  options: {},
  examples: [
    ['sluice hash runs/quickstart', 'Hashes of the newest checkpoint, computed from its bytes.'],
    ['sluice hash runs/quickstart --json', 'The same as JSON.'],
  ],
  async run({ checkpoint }, { log }) {
    const { hashCheckpoint } = await import('@sluice/checkpoint');
    const { locateCheckpoint, refusedLine } = await import('../run/locateCheckpoint.ts');
    const directory = await locateCheckpoint(checkpoint, (refused) => log(refusedLine(refused)));
    const { weights, optimizer, tensors } = await hashCheckpoint(directory);
    const lines = Object.entries(tensors).map(([name, hash]) => `${hash}  ${name}`);
    return {
      json: { checkpoint: directory, weights, optimizer, tensors },
      text: [...lines, `${optimizer ?? '-'}  (optimizer)`, `${weights}  (weights)`].join('\n'),
    };
  },
});
