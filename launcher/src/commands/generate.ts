/** `sluice generate`: samples text from a trained model. */

import { HIGHEST_TEMPERATURE, MOST_SAMPLED_TOKENS } from '@sluice/core';
import { defineCommand } from '../cli/command.ts';
import { atLeast, INFERENCE_OPTIONS, type InferenceArguments, wholeNumber } from '../cli/options.ts';
import { ABORTED_EXIT_CODE } from '../signals/stopSignal.ts';

interface GenerateArguments extends InferenceArguments {
  readonly source: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly seed: number;
}

export const generateCommand = defineCommand<GenerateArguments>({
  name: 'generate',
  describe: 'Sample text from a run, a checkpoint or a Hugging Face model.',
  positionals: {
    source: {
      type: 'string',
      demandOption: true,
      describe: 'Directory of a run, of a checkpoint, or of a Hugging Face model.',
    },
  },
  options: {
    prompt: { type: 'string', demandOption: true, requiresArg: true, describe: 'Text to go on with.' },
    'max-tokens': {
      type: 'number',
      default: 64,
      requiresArg: true,
      coerce: wholeNumber('max-tokens', 1, MOST_SAMPLED_TOKENS),
      describe: 'Most tokens to sample.',
    },
    temperature: {
      type: 'number',
      default: 0.8,
      requiresArg: true,
      coerce: atLeast('temperature', 0, HIGHEST_TEMPERATURE),
      describe: 'Divides the logits; 0 takes the likeliest token.',
    },
    'top-k': {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('top-k', 1),
      describe: 'Samples from so many of the likeliest tokens; from all when left out.',
    },
    seed: {
      type: 'number',
      default: 1,
      requiresArg: true,
      coerce: wholeNumber('seed', 0),
      describe: 'Seed of the sampling; the same seed gives the same text.',
    },
    ...INFERENCE_OPTIONS,
  },
  examples: [
    ['sluice generate runs/quickstart --prompt "A river is"', 'Go on with a text.'],
    ['sluice generate models/qwen3 --prompt "A river is"', 'By a Hugging Face model, with its tokenizer.'],
    ['sluice generate runs/quickstart --prompt "The" --temperature 0 --json', 'The likeliest text, as JSON.'],
    [
      'sluice generate runs/quickstart --prompt "The" --temperature 1 --top-k 40',
      'From the forty likeliest tokens.',
    ],
    ['sluice generate runs/quickstart --prompt "The" --backend cuda', 'On a GPU.'],
  ],
  async run({ prompt, maxTokens, temperature, topK, seed, ...request }, { log }) {
    const { withModel } = await import('../run/inference.ts');
    const { interruptible } = await import('../signals/interruptible.ts');
    const { result, computedBy, isCut } = await interruptible(async (signal) => {
      const sampling = { maxTokens, temperature, topK, seed, signal };
      const generated = await withModel(request, log, (model) => model.generate({ prompt, ...sampling }));
      // What has come before Ctrl-C is shown, if anything has.
      if (generated.result.tokens === 0) signal.throwIfAborted();
      return { ...generated, isCut: signal.aborted };
    });
    const { text, tokens } = result;
    const whole = `${prompt}${text}`;
    const { printable } = await import('@sluice/observe');
    // A terminal would obey what a model makes up of control characters; a file gets every character.
    const shown = process.stdout.isTTY ? printable(whole) : whole;
    return {
      json: { text, tokens, ...computedBy },
      text: shown,
      ...(isCut && { exitCode: ABORTED_EXIT_CODE }),
    };
  },
});
