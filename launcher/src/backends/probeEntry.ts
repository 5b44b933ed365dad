/** Starts a backend in a process of its own and computes with it: `probeEntry.js NAME` prints one line of JSON. */

import { deviceLinks, selectBackend } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';

async function probe(name: string): Promise<object> {
  try {
    await selectBackend(name);
    const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2]));
    const values = [...(await product.data())];
    if (values.join() !== '19,22,43,50') return { ok: false, reason: `a product of 2×2 gives ${values}` };
    const { description } = tf.backend() as { description?: string };
    const remark = [description, exchange()].filter((text) => text !== undefined).join(', ');
    return { ok: true, ...(remark !== '' && { reason: remark }) };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** How workers would send each other what lies on their devices. */
function exchange(): string | undefined {
  const end = deviceLinks()?.end();
  if (!end || 'description' in end) return end?.description;
  return `what workers exchange goes by way of the host: ${end.absence}`;
}

const result = await probe(process.argv[2] ?? '');
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
