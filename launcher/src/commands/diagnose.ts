/** `sluice diagnose`: the paper's measurements of one or several models. */

import { defineCommand } from '../cli/command.ts';
import {
  INFERENCE_OPTIONS,
  type InferenceArguments,
  ROPE_SET_OPTION,
  SCORED_TEXT_OPTIONS,
  type ScoredTextArguments,
  wholeNumber,
  wholeNumbers,
} from '../cli/options.ts';

interface DiagnoseArguments extends ScoredTextArguments, InferenceArguments {
  readonly sources: string[];
  readonly sequenceLength?: number;
  readonly sequences: number;
  readonly html?: string;
  readonly layers?: number[];
  readonly heads?: number[];
  readonly set?: string[];
}

export const diagnoseCommand = defineCommand<DiagnoseArguments>({
  name: 'diagnose',
  describe: 'Measure attention sinks, massive activations, gates and experts of one or several models.',
  positionals: {
    sources: {
      type: 'string',
      array: true,
      demandOption: true,
      describe: 'Directories of runs, of checkpoints, or of Hugging Face models.',
    },
  },
  options: {
    ...SCORED_TEXT_OPTIONS,
    'sequence-length': {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('sequence-length', 2),
      describe: 'Tokens of a sequence; as many as in training by default, at most 4096.',
    },
    sequences: {
      type: 'number',
      default: 16,
      requiresArg: true,
      coerce: wholeNumber('sequences', 1),
      describe: 'Sequences to measure.',
    },
    html: {
      type: 'string',
      requiresArg: true,
      describe: 'Page to write with the paper’s figures, of all models side by side.',
    },
    layers: {
      type: 'string',
      requiresArg: true,
      coerce: wholeNumbers('layers'),
      implies: 'html',
      describe: 'Layers whose attention maps the page shows, from 0: 0,3,7. Four by default.',
    },
    heads: {
      type: 'string',
      requiresArg: true,
      coerce: wholeNumbers('heads'),
      implies: 'html',
      describe: 'Heads whose attention maps the page shows, from 0: 0,1. The mean of all by default.',
    },
    set: ROPE_SET_OPTION,
    ...INFERENCE_OPTIONS,
  },
  examples: [
    ['sluice diagnose runs/quickstart', 'A run’s newest checkpoint, on its validation split.'],
    [
      'sluice diagnose runs/baseline runs/gated --sequence-length 512 --html diagnosis.html',
      'Two models side by side, as a page of figures.',
    ],
    ['sluice diagnose models/qwen3 --text book.txt --json', 'A Hugging Face model on a text, as JSON.'],
    [
      'sluice diagnose runs/gated --html maps.html --layers 0,5 --heads 0,1',
      'With attention maps of chosen layers and heads.',
    ],
  ],
  async run({ sources, ...options }, { log }) {
    const { diagnoseModels } = await import('../run/diagnose.ts');
    return diagnoseModels(sources, options, log);
  },
});
