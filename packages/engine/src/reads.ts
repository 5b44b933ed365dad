/**
 * When the values of tensors are read. Most backends give them at once. WebGPU gives them only to those who await them, which
 * nobody can do in the middle of a pass; so whoever wants values says what to do with them, and it is done when the pass is
 * over, in the order in which it was said.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { readValues } from './backend.ts';

interface Read {
  readonly tensors: readonly tf.Tensor[];
  readonly use: (...values: Float32Array[]) => void;
}

/** What is to be read when the pass is over. */
let reads: Read[] | undefined;

/** Backends whose values can only be awaited. */
const awaited = new Set<string>();

/** Says that the values of a backend can only be awaited. */
export function awaitReadsOn(backend: string): void {
  awaited.add(backend);
}

/** Whether the running backend gives values in the middle of a pass. Backends that someone else registered count as such. */
export function readsSynchronously(): boolean {
  return !awaited.has(tf.getBackend());
}

/**
 * Hands the values of float tensors to `use`: at once where the backend can, otherwise when the pass is over, which then must
 * be inside of `withReads`. Without tensors, `use` waits for the reads that were asked for before it. The values are only
 * to be read, and only then.
 */
export function whenRead(tensors: readonly tf.Tensor[], use: (...values: Float32Array[]) => void): void {
  if (readsSynchronously()) {
    use(...tensors.map(readValues));
    return;
  }
  invariant(reads, `values on ${tf.getBackend()} can only be awaited, and nobody does`);
  reads.push({ tensors: tensors.map((tensor) => tf.keep(tensor.clone())), use });
}

/**
 * Runs `pass`, then reads what was asked for in it by `whenRead`.
 * @returns what `pass` returned, once everything is read
 */
export async function withReads<T>(pass: () => T): Promise<T> {
  invariant(!reads, 'passes with reads do not nest');
  const asked: Read[] = [];
  try {
    const result = collecting(asked, pass);
    for (const { tensors, use } of asked) {
      use(...(await Promise.all(tensors.map((tensor) => tensor.data<'float32'>()))));
      tf.dispose([...tensors]);
    }
    return result;
  } finally {
    for (const { tensors } of asked) tf.dispose([...tensors]);
  }
}

function collecting<T>(asked: Read[], pass: () => T): T {
  reads = asked;
  try {
    return pass();
  } finally {
    reads = undefined;
  }
}
