/** `native`: TensorFlow.js's CPU backend with the kernels of the C++ core (see `../backend.ts`, which registers it). */

import { NATIVE_BACKEND } from '../backend.ts';
import { nativeAbsence } from '../native.ts';
import type { Backend } from './backend.ts';

export const native: Backend = {
  name: NATIVE_BACKEND,
  purpose: 'training on CPUs: the C++ core',
  packages: [],
  precisions: ['f32'],
  readsSynchronously: true,
  absence: nativeAbsence,
  async load() {},
};
