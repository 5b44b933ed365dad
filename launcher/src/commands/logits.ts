/** `sluice logits`: a model's logits, for comparing with other implementations. */

import { defineCommand } from '../cli/command.ts';
import { INFERENCE_OPTIONS, type InferenceArguments } from '../cli/options.ts';

interface LogitsArguments extends InferenceArguments {
  readonly source: string;
  readonly ids: string;
  readonly out: string;
}

export const logitsCommand = defineCommand<LogitsArguments>({
  name: 'logits',
  describe: 'Compute the logits of rows of token ids, to compare with other implementations.',
  positionals: {
    source: {
      type: 'string',
      demandOption: true,
      describe: 'Directory of a checkpoint, of a run, or of a Hugging Face model.',
    },
  },
  options: {
    ids: {
      type: 'string',
      demandOption: true,
      requiresArg: true,
      describe: 'JSON file of rows of token ids, all of one length: [[1, 2, 3], [4, 5, 6]].',
    },
    out: {
      type: 'string',
      demandOption: true,
      requiresArg: true,
      describe: 'JSON file to write: {"shape": [rows, tokens, vocabulary], "logits": [[[…]]]}.',
    },
    ...INFERENCE_OPTIONS,
  },
  examples: [
    ['sluice logits models/qwen3 --ids ids.json --out logits.json', 'Of a Hugging Face model.'],
    ['sluice logits runs/quickstart --ids ids.json --out logits.json --json', 'Of a run; the shape as JSON.'],
  ],
  async run({ ids, out, ...request }, { log }) {
    const { refuseUnwritable } = await import('@sluice/core');
    const { interruptible } = await import('../signals/interruptible.ts');
    const { withModel } = await import('../run/inference.ts');
    const { readTokenIds, writeLogits } = await import('../run/tokenIds.ts');
    refuseUnwritable(out);
    const { result: shape, computedBy } = await withModel(request, log, (model) => {
      const rows = readTokenIds(ids, model.decoder.config.vocabularySize);
      return interruptible((signal) => writeLogits(out, model, rows, signal));
    });
    return { json: { shape, out, ...computedBy }, text: `logits [${shape.join(', ')}] written to ${out}` };
  },
});
