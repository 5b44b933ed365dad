/** `sluice evaluate`: perplexity of a trained model. */

import { defineCommand } from '../cli/command.ts';

interface EvaluateArguments {
  readonly source: string;
  readonly split: 'train' | 'validation';
}

const PROGRESS_EVERY_MS = 5_000;

export const evaluateCommand = defineCommand<EvaluateArguments>({
  name: 'evaluate',
  describe: 'Measure the perplexity of a run or a checkpoint.',
  positionals: {
    source: { type: 'string', demandOption: true, describe: 'Directory of a run or of a checkpoint.' },
  },
  options: {
    split: {
      type: 'string',
      choices: ['validation', 'train'],
      default: 'validation',
      requiresArg: true,
      describe: 'Part of the prepared corpus.',
    },
  },
  examples: [
    ['sluice evaluate runs/quickstart', 'Perplexity on the whole validation split.'],
    ['sluice evaluate runs/quickstart/checkpoints/step-00000100 --json', 'Of one checkpoint, as JSON.'],
  ],
  async run({ source, split }, { log }) {
    const { loadCheckpointForInference } = await import('../run/inference.ts');
    const { formatCount, formatLoss } = await import('@sluice/observe');
    const model = await loadCheckpointForInference(source, log);
    let shownAt = Date.now();
    const { loss, perplexity, tokens } = await model.evaluate({
      split,
      onProgress: (done, total) => {
        if (Date.now() - shownAt < PROGRESS_EVERY_MS) return;
        shownAt = Date.now();
        log(`evaluating: ${formatCount(done)} of ${formatCount(total)} sequences`);
      },
    });
    return {
      json: { split, loss, perplexity, tokens },
      text: `loss ${formatLoss(loss)} nats a token, perplexity ${perplexity.toFixed(2)}, over ${formatCount(tokens)} tokens of ${split}`,
    };
  },
});
