/** `wasm`: TensorFlow.js's WebAssembly kernels with SIMD, where there is no C++ compiler. */

import { join } from 'node:path';
import type { Backend } from './backend.ts';
import { backendDirectory, missingPackages, requireFrom } from './location.ts';

const NAME = 'wasm';
const PACKAGE = { name: '@tensorflow/tfjs-backend-wasm', version: '4.22.0' };

export const wasm: Backend = {
  name: NAME,
  purpose: 'WebAssembly, where there is no C++ compiler',
  packages: [PACKAGE],
  precisions: ['f32'],
  readsSynchronously: true,
  absence: () => missingPackages(NAME, [PACKAGE]),
  async load() {
    const { setWasmPaths } = requireFrom(NAME, PACKAGE.name) as { setWasmPaths(prefix: string): void };
    setWasmPaths(`${join(backendDirectory(NAME), 'node_modules', PACKAGE.name, 'wasm-out')}/`);
  },
};
