/** `sluice import`: a checkpoint from a Hugging Face directory. */

import { defineCommand } from '../cli/command.ts';

interface ImportArguments {
  readonly source: string;
  readonly out: string;
  readonly ignoreConfig?: string[];
}

export const importCommand = defineCommand<ImportArguments>({
  name: 'import',
  describe: 'Make a checkpoint from a Hugging Face directory: weights, configuration and tokenizer.',
  positionals: {
    source: {
      type: 'string',
      demandOption: true,
      describe:
        'Directory with config.json and safetensors: of the paper’s gated models, Qwen3 and Qwen3-MoE, Qwen3-Next, Qwen3.5, and the other families of docs/families.md.',
    },
  },
  options: {
    out: {
      type: 'string',
      demandOption: true,
      requiresArg: true,
      describe: 'Directory of the checkpoint, new or empty.',
    },
    'ignore-config': {
      type: 'string',
      array: true,
      requiresArg: true,
      describe:
        'Key of config.json to pass over although Sluice does not know it; the checkpoint records it. May be repeated.',
    },
  },
  examples: [
    ['sluice import models/1B_gate_elementwise --out checkpoints/elementwise', 'Import a released model.'],
    ['sluice import models/qwen3 --out checkpoints/qwen3 --json', 'The same with the result as JSON.'],
    [
      'sluice import models/tuned --out checkpoints/tuned --ignore-config my_note',
      'Pass over a key that is known to change nothing.',
    ],
  ],
  async run({ source, out, ignoreConfig: ignoreKeys }, { log }) {
    const { importHuggingFace } = await import('@sluice/checkpoint/huggingface');
    const { formatCount } = await import('@sluice/observe');
    const { interruptible } = await import('../signals/interruptible.ts');
    const { percentLogger } = await import('../run/percentLogger.ts');
    const onProgress = percentLogger('importing', log);
    const summary = await interruptible((signal) =>
      importHuggingFace(source, out, { ignoreKeys, onProgress, signal }),
    );
    const { model, notes, ...facts } = summary;
    const { layout, weights, parameters, tokenizerFiles, ignoredKeys } = facts;
    notes.forEach(log);
    for (const [key, value] of Object.entries(ignoredKeys))
      log(`passed over as asked: ${key} ${JSON.stringify(value)} of config.json`);
    const tokenizer = tokenizerFiles.includes('tokenizer.json')
      ? 'with its tokenizer'
      : 'without a tokenizer';
    return {
      json: { checkpoint: out, ...facts, notes, model },
      text: `imported ${formatCount(parameters)} parameters (layout ${layout}, ${tokenizer}) to ${out}\nweights ${weights}`,
    };
  },
});
