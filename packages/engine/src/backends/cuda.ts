/**
 * `cuda`: our own kernels on an NVIDIA GPU, or on the emulator where `SLUICE_CUDA=emulated` is set. It has TensorFlow.js's operations,
 * and none of the fused ones yet: so no configuration can name it.
 */

import { createRequire } from 'node:module';
import { SluiceError } from '@sluice/core';
import { compilerCandidates, cxxCompiler } from '../compiler.ts';
import type { Backend } from './backend.ts';

const NAME = 'cuda';
/** As the system's loader finds it. */
export const DRIVER_LIBRARY = 'libcuda.so.1';

/**
 * Whether `SLUICE_CUDA` asks for the emulator.
 * @throws SLUICE_E_CUDA where it says something else
 */
export function isEmulated(): boolean {
  const wanted = process.env.SLUICE_CUDA;
  if (!wanted || wanted === 'emulated') return wanted === 'emulated';
  throw new SluiceError(
    'SLUICE_E_CUDA',
    `SLUICE_CUDA is "${wanted}". It may be "emulated", for the emulator, or unset, for a GPU.`,
  );
}

function driverAbsence(): string | undefined {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as { load(library: string): unknown };
    koffi.load(DRIVER_LIBRARY);
    return undefined;
  } catch (error) {
    return `there is no NVIDIA driver that can be opened (${(error as Error).message.split('\n')[0]})`;
  }
}

export const cuda: Backend = {
  name: NAME,
  purpose: 'NVIDIA GPUs, by kernels of our own; not finished',
  packages: [],
  readsSynchronously: true,
  absence() {
    if (!isEmulated()) return driverAbsence();
    return cxxCompiler()
      ? undefined
      : `the emulator needs a C++17 compiler, and there is none (tried ${compilerCandidates().join(', ')})`;
  },
  async load() {
    const { registerCudaBackend } = await import('../cuda/register.ts');
    registerCudaBackend();
  },
};
