/** `sluice evaluate`: perplexity of a trained model, or its retrieval from long contexts. */

import { defineCommand } from '../cli/command.ts';
import { LONG_CONTEXT_OPTIONS, type LongContextArguments } from '../cli/longContextOptions.ts';
import {
  INFERENCE_OPTIONS,
  type InferenceArguments,
  ROPE_SET_OPTION,
  SCORED_TEXT_OPTIONS,
  type ScoredTextArguments,
  wholeNumber,
} from '../cli/options.ts';

interface EvaluateArguments extends ScoredTextArguments, LongContextArguments, InferenceArguments {
  readonly source: string;
  readonly sequenceLength?: number;
  readonly set?: string[];
}

export const evaluateCommand = defineCommand<EvaluateArguments>({
  name: 'evaluate',
  describe:
    'Measure the perplexity of a run, a checkpoint or a Hugging Face model, or its retrieval from long contexts.',
  positionals: {
    source: {
      type: 'string',
      demandOption: true,
      describe: 'Directory of a run, of a checkpoint, or of a Hugging Face model.',
    },
  },
  options: {
    ...SCORED_TEXT_OPTIONS,
    'sequence-length': {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('sequence-length', 1),
      describe: 'Tokens of a sequence; as many as the model is meant for by default.',
    },
    set: ROPE_SET_OPTION,
    ...INFERENCE_OPTIONS,
    ...LONG_CONTEXT_OPTIONS,
  },
  examples: [
    ['sluice evaluate runs/quickstart', 'Perplexity on the whole validation split.'],
    ['sluice evaluate runs/quickstart/checkpoints/step-00000100 --json', 'Of one checkpoint, as JSON.'],
    ['sluice evaluate models/qwen3 --text book.txt', 'Of a Hugging Face model on a text.'],
    ['sluice evaluate runs/quickstart --backend cuda --precision f32', 'On a GPU, in single precision.'],
    [
      'sluice evaluate runs/quickstart --sequence-length 512 --set model.ropeScaling.kind=linear model.ropeScaling.factor=4',
      'On sequences four times as long as those of training.',
    ],
    ['sluice evaluate runs/needles --task niah --length 256,1k', 'Needles in haystacks of two lengths.'],
    [
      'sluice evaluate runs/needles --task niah --length 1k --set model.ropeScaling.kind=yarn model.ropeScaling.factor=4 model.ropeScaling.originalLength=256',
      'With YaRN, without training.',
    ],
  ],
  async run({ task, sequenceLength, ...request }, { log }) {
    if (task !== undefined) {
      const { measureLongContext } = await import('../run/longContext.ts');
      return measureLongContext({ task, ...request }, log);
    }
    const { split, text, data } = request;
    const { readTextFile } = await import('@sluice/core');
    const { formatCount, formatLoss } = await import('@sluice/observe');
    const { withModel } = await import('../run/inference.ts');
    const { percentLogger } = await import('../run/percentLogger.ts');
    // Before the model, which takes longer to load than a mistyped path to see.
    const content = text === undefined ? undefined : readTextFile(text);
    const { result, computedBy } = await withModel(request, log, (model) => {
      const options = { sequenceLength, onProgress: percentLogger('evaluating', log) };
      return content === undefined
        ? model.evaluate({ split, dataDirectory: data, ...options })
        : model.evaluateText(content, options);
    });
    const { loss, perplexity, tokens, corpora } = result;
    const of = text ?? split;
    return {
      json: {
        ...(text === undefined ? { split } : { text }),
        ...{ loss, perplexity, tokens },
        ...(corpora && { corpora }),
        ...computedBy,
      },
      text: [
        `loss ${formatLoss(loss)} nats a token, perplexity ${perplexity.toFixed(2)}, over ${formatCount(tokens)} tokens of ${of}`,
        ...(corpora ?? []).map(
          (one) =>
            `  ${one.name}: loss ${formatLoss(one.loss)}, perplexity ${one.perplexity.toFixed(2)}, over ${formatCount(one.tokens)} tokens`,
        ),
      ].join('\n'),
    };
  },
});
