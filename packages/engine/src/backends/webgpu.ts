/** `webgpu`: any GPU through Vulkan, Metal or Direct3D 12, by Google's Dawn and TensorFlow.js's WebGPU kernels. */

import type { Backend } from './backend.ts';
import { missingPackages, requireFrom } from './location.ts';

const NAME = 'webgpu';
const DAWN = { name: 'webgpu', version: '0.6.2' };
const KERNELS = { name: '@tensorflow/tfjs-backend-webgpu', version: '4.22.0' };

const NO_ADAPTER =
  'there is no adapter: no GPU with a driver for Vulkan, Metal or Direct3D 12 (a software one: Mesa 25 or newer)';

interface Dawn {
  create(options: string[]): { requestAdapter(): Promise<object | null> };
  readonly globals: Record<string, unknown>;
}

export const webgpu: Backend = {
  name: NAME,
  purpose: 'any GPU by Vulkan, Metal or Direct3D 12',
  packages: [DAWN, KERNELS],
  precisions: ['f32'],
  readsSynchronously: false,
  absence: () => missingPackages(NAME, [DAWN, KERNELS]),
  async load() {
    const { create, globals } = requireFrom(NAME, DAWN.name) as Dawn;
    Object.assign(globalThis, globals);
    // Node has a `navigator` of its own since version 21.
    const { navigator = {} } = globalThis as { navigator?: object };
    const gpu = create([]);
    if (!(await gpu.requestAdapter())) throw new Error(NO_ADAPTER);
    Object.defineProperty(navigator, 'gpu', { value: gpu, configurable: true });
    Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
    requireFrom(NAME, KERNELS.name);
  },
};
