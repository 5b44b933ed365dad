/** `sluice backend install`: brings an optional TensorFlow.js backend. */

import { SluiceError } from '@sluice/core';
import { defineCommand } from '../cli/command.ts';

interface BackendInstallArguments {
  readonly name: 'cuda' | 'tensorflow' | 'webgpu' | 'wasm';
  readonly gpu: boolean;
  readonly nccl: boolean;
}

export const backendInstallCommand = defineCommand<BackendInstallArguments>({
  name: 'backend install',
  describe: 'Install an optional TensorFlow.js backend. Changes neither package.json nor the lockfile.',
  positionals: {
    name: {
      type: 'string',
      choices: ['cuda', 'tensorflow', 'webgpu', 'wasm'],
      demandOption: true,
      describe: 'The backend.',
    },
  },
  options: {
    gpu: { type: 'boolean', default: false, describe: 'tensorflow: use NVIDIA GPUs.' },
    nccl: {
      type: 'boolean',
      default: false,
      describe: 'cuda: fetch NCCL too, by which several GPUs send each other their memory (305 MB).',
    },
  },
  examples: [
    ['sluice backend install cuda', 'Kernels of our own on NVIDIA GPUs: their compiler, 58 MB.'],
    ['sluice backend install cuda --nccl', 'The same for several GPUs, with NCCL between them.'],
    ['sluice backend install tensorflow', 'TensorFlow on the CPU.'],
    ['sluice backend install tensorflow --gpu', 'TensorFlow on NVIDIA GPUs, one worker each.'],
    ['sluice backend install webgpu', 'Any GPU, without its vendor’s libraries.'],
  ],
  async run({ name, gpu, nccl }, { log }) {
    if (gpu && name !== 'tensorflow') {
      throw new SluiceError('SLUICE_E_USAGE', `--gpu is for tensorflow; ${name} has no such choice.`);
    }
    if (nccl && name !== 'cuda') {
      throw new SluiceError('SLUICE_E_USAGE', `--nccl is for cuda; ${name} has no such choice.`);
    }
    const { installBackend } = await import('../backends/install.ts');
    const result = await installBackend(name, { gpu, nccl }, log);
    const libraries = result.tensorflow && ` (TensorFlow ${result.tensorflow.libraries})`;
    const state = result.fresh
      ? `is installed${result.remark === undefined ? ' and runs' : ''}`
      : 'was installed already';
    const remark = result.remark === undefined ? '' : `\nIt does not run here: ${result.remark}.`;
    return {
      json: { ...result },
      text: `${name}${libraries ?? ''} ${state}: ${result.directory}${remark}`,
    };
  },
});
