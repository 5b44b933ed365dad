/** `cpu`: TensorFlow.js's plain JavaScript kernels, the reference that every machine can run. */

import type { Backend } from './backend.ts';

export const cpu: Backend = {
  name: 'cpu',
  purpose: 'plain JavaScript, where nothing else runs',
  packages: [],
  precisions: ['f32'],
  readsSynchronously: true,
  absence: () => undefined,
  async load() {},
};
