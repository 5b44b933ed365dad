/** `cuda`: our own kernels on an NVIDIA GPU, or on the emulator where `SLUICE_CUDA=emulated` or `emulated-hopper` is set. */

import { compilerCandidates, cxxCompiler } from '../compiler.ts';
import { cudaDriver, emulationMistake, isCudaEmulated } from '../cuda/environment.ts';
import type { Backend } from './backend.ts';

const NAME = 'cuda';
export const cuda: Backend = {
  name: NAME,
  purpose: 'NVIDIA GPUs, by kernels of our own; never run on one yet',
  packages: [],
  precisions: ['bf16', 'f32'],
  readsSynchronously: true,
  mistake: emulationMistake,
  absence() {
    const wrong = emulationMistake();
    if (wrong) return wrong;
    if (!isCudaEmulated()) {
      const driver = cudaDriver();
      return 'absence' in driver ? driver.absence : undefined;
    }
    return cxxCompiler()
      ? undefined
      : `the emulator needs a C++17 compiler, and there is none (tried ${compilerCandidates().join(', ')})`;
  },
  async load() {
    const { registerCudaBackend } = await import('../cuda/register.ts');
    registerCudaBackend();
  },
};
