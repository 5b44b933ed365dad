/**
 * Rows sent to other workers for rows received from them: the only operation whose result depends on a peer. Its
 * gradient travels the same way back. Shapes: M rows sent, R rows received, C channels.
 */

import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFused } from '../fused.ts';
import { isRecording } from '../tape.ts';

const KERNEL = 'SluiceExchangeRows';

/**
 * Sends `rows` (those for peer 0, then for peer 1, …, each of `width` floats) and fills `received` likewise. Blocks
 * until it is done.
 */
export type RowExchange = (
  rows: Float32Array,
  rowsToPeer: readonly number[],
  received: Float32Array,
  rowsFromPeer: readonly number[],
  width: number,
) => void;

interface ExchangeAttributes {
  readonly exchange: RowExchange;
  readonly rowsToPeer: readonly number[];
  readonly rowsFromPeer: readonly number[];
}

/**
 * @param rows_MC rows in order of the peers that get them
 * @returns [R, C], in order of the peers that sent them
 */
export function exchangeRows(rows_MC: tf.Tensor2D, attributes: ExchangeAttributes): tf.Tensor2D {
  if (hasFused(KERNEL)) return runFused(KERNEL, { rows: rows_MC }, attributes);
  return exchangeRowsReference(rows_MC, attributes);
}

export function exchangeRowsReference(
  rows_MC: tf.Tensor2D,
  { exchange, rowsToPeer, rowsFromPeer }: ExchangeAttributes,
): tf.Tensor2D {
  const width = rows_MC.shape[1];
  const send = (tensor: tf.Tensor, to: readonly number[], from: readonly number[]) => {
    const received = new Float32Array(total(from) * width);
    exchange(tensor.dataSync<'float32'>(), to, received, from, width);
    return tf.tensor2d(received, [total(from), width]);
  };
  if (!isRecording()) return send(rows_MC, rowsToPeer, rowsFromPeer);
  const differentiable = tf.customGrad((rows) => ({
    value: send(rows as tf.Tensor, rowsToPeer, rowsFromPeer),
    gradFunc: (dy: tf.Tensor) => send(dy, rowsFromPeer, rowsToPeer),
  }));
  return differentiable(rows_MC) as tf.Tensor2D;
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

registerFused<ExchangeAttributes>({
  name: KERNEL,
  inputsToSave: [],
  forward({ floats, shape, output, attributes: { exchange, rowsToPeer, rowsFromPeer } }) {
    const width = shape('rows')[1]!;
    const received = output([total(rowsFromPeer), width]);
    exchange(floats('rows'), rowsToPeer, received.values, rowsFromPeer, width);
    return received.info;
  },
  backward({ valuesOf, tensor, attributes: { exchange, rowsToPeer, rowsFromPeer } }, [dy]) {
    const width = dy!.shape[1]!;
    const returned = tensor([total(rowsToPeer), width]);
    exchange(valuesOf(dy!), rowsFromPeer, returned.values, rowsToPeer, width);
    return { rows: returned.tensor };
  },
});
