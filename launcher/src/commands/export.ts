/** `sluice export`: a Hugging Face directory from a checkpoint. */

import type { ExportType } from '@sluice/checkpoint/huggingface';
import type { HuggingFaceLayout } from '@sluice/model';
import { defineCommand } from '../cli/command.ts';

interface ExportArguments {
  readonly source: string;
  readonly hf: string;
  readonly dtype: ExportType;
  readonly layout?: HuggingFaceLayout;
}

export const exportCommand = defineCommand<ExportArguments>({
  name: 'export',
  describe: 'Write a checkpoint as a Hugging Face directory: config.json, safetensors, tokenizer.',
  positionals: {
    source: {
      type: 'string',
      demandOption: true,
      describe: 'Directory of a checkpoint, or of a run for its newest sound one.',
    },
  },
  options: {
    hf: {
      type: 'string',
      demandOption: true,
      requiresArg: true,
      describe: 'Directory to write, new or empty.',
    },
    dtype: {
      type: 'string',
      // Written out, since nothing is imported before a command runs; a test compares them with the real lists.
      choices: ['f32', 'bf16', 'f16'],
      default: 'f32',
      requiresArg: true,
      describe: 'Type of the weights; the 16-bit ones are rounded to the nearest.',
    },
    layout: {
      type: 'string',
      choices: [
        'gated',
        'qwen3',
        'qwen3-moe',
        'qwen3-moe-fused',
        'qwen3-next',
        'qwen3.5',
        'qwen3.5-moe',
        'qwen3.5-moe-per-expert',
        'afmoe',
        'laguna',
        'lfm3',
        'muse-glimmer',
        'olmo-hybrid',
        'step3.5',
        'kimi-linear',
      ],
      requiresArg: true,
      describe: 'Layout; by default the one that was imported, or that says the most of the model.',
    },
  },
  examples: [
    ['sluice export runs/gated --hf models/gated --dtype bf16', 'Write a run’s newest checkpoint in bf16.'],
    [
      'sluice export checkpoints/moe --hf models/moe --layout qwen3-moe-fused',
      'With all experts in one tensor.',
    ],
  ],
  async run({ source, hf, dtype, layout }, { log }) {
    const { exportHuggingFace } = await import('@sluice/checkpoint/huggingface');
    const { formatCount } = await import('@sluice/observe');
    const { interruptible } = await import('../signals/interruptible.ts');
    const { locateCheckpoint, refusedLine } = await import('../run/locateCheckpoint.ts');
    const { percentLogger } = await import('../run/percentLogger.ts');
    const checkpoint = await locateCheckpoint(source, (refused) => log(refusedLine(refused)));
    const onProgress = percentLogger('exporting', log);
    const summary = await interruptible((signal) =>
      exportHuggingFace({ checkpoint, target: hf, dtype, layout, onProgress, signal }),
    );
    if (summary.tokenizerFiles.length === 0)
      log('no tokenizer of the checkpoint is to be found; the weights are exported alone');
    for (const note of summary.notes) log(`written as: ${note}`);
    const count = summary.weightFiles.length;
    return {
      json: { directory: hf, checkpoint, ...summary },
      text: `exported ${formatCount(summary.parameters)} parameters (layout ${summary.layout}, ${dtype}) to ${hf}, in ${count} file${count === 1 ? '' : 's'}`,
    };
  },
});
