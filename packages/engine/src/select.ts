/** Which backend runs, and what arithmetic that means. */

import * as tf from '@tensorflow/tfjs';
import { NATIVE_BACKEND } from './backend.ts';
import { callNative, nativeCore } from './native.ts';

/**
 * Makes a TensorFlow.js backend the running one. `native` falls back to `cpu` where the C++ core was not built.
 * @returns the name of the backend that runs
 */
export async function selectBackend(wanted: string): Promise<string> {
  const name = wanted === NATIVE_BACKEND && !nativeCore() ? 'cpu' : wanted;
  if (!(await tf.setBackend(name)))
    throw new Error(`The TensorFlow.js backend "${name}" could not be started.`);
  await tf.ready();
  return name;
}

/** Names everything that the bits of a result depend on: the backend and, for `native`, the width of its vectors. */
export function arithmetic(): string {
  const backend = tf.getBackend();
  if (backend !== NATIVE_BACKEND) return backend;
  return `${NATIVE_BACKEND}-${process.arch}-${callNative('vectorWidth')}`;
}
