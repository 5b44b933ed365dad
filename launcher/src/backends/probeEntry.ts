/** Starts a backend in a process of its own and computes with it: `probeEntry.js NAME` prints one line of JSON. */

import { selectBackend } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';

async function probe(name: string): Promise<object> {
  try {
    await selectBackend(name);
    const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2]));
    const values = [...(await product.data())];
    if (values.join() !== '19,22,43,50') return { ok: false, reason: `a product of 2×2 gives ${values}` };
    const { description } = tf.backend() as { description?: string };
    return { ok: true, ...(description !== undefined && { reason: description }) };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

const result = await probe(process.argv[2] ?? '');
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
