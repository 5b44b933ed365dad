/**
 * Gated feed-forward of experts that several peers hold: rows travel to the peers of their experts, and what these
 * compute travels back; gradients go the same ways. The only operation whose result depends on a peer.
 *
 * Own rows for own experts stay where they are, and are computed while others travel: before the peers' rows, unless these
 * have come already, so that their peer waits less. Neither order changes a bit.
 *
 * Shapes: M own rows, by the peer of their expert; R rows for own experts, by the peer that they come from; F of these come
 * from other peers; C channels, I hidden units of an expert.
 */

import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFused, Saved } from '../fused.ts';
import type { Parameter } from '../parameter.ts';
import { isRecording } from '../tape.ts';
import {
  contributeSegments,
  type ExpertSegment,
  expertFeedForward,
  feedForwardSegments,
  feedForwardSegmentsBackward,
} from './expertFeedForward.ts';

const KERNEL = 'SluiceExpertFeedForwardExchanged';

/** Rows [begin, end). */
export interface RowRange {
  readonly begin: number;
  readonly end: number;
}

/** Rows on their way. */
export interface RowArrival {
  /** Whether `wait` would return at once. */
  readonly done: boolean;
  /** Blocks until all that is to be received has come, and what was sent may be changed. */
  wait(): void;
}

/**
 * Begins to send rows of `send`, each of `width` floats, to each peer, and to receive rows of `receive` from it: one range
 * for each peer, which may be empty.
 */
export type StartExchange = (
  send: Float32Array,
  rowsToPeer: readonly RowRange[],
  receive: Float32Array,
  rowsFromPeer: readonly RowRange[],
  width: number,
) => RowArrival;

export interface ExchangedExperts {
  readonly start: StartExchange;
  /** Own place among the peers. */
  readonly rank: number;
  readonly rowsToPeer: readonly number[];
  readonly rowsFromPeer: readonly number[];
  /** The R rows; peers are their sources. */
  readonly segments: readonly ExpertSegment[];
  /** Shape [own experts, 2I, C] */
  readonly gateUp: Parameter;
  /** Shape [own experts, C, I] */
  readonly down: Parameter;
}

/**
 * @param rows_MC rows in order of the peers that hold their experts
 * @returns [M, C], in the same order
 */
export function exchangedExperts(rows_MC: tf.Tensor2D, experts: ExchangedExperts): tf.Tensor2D {
  if (hasFused(KERNEL)) return runFused(KERNEL, { rows: rows_MC }, { ...experts, saved: new Saved() });
  return exchangedExpertsReference(rows_MC, experts);
}

export function exchangedExpertsReference(rows_MC: tf.Tensor2D, experts: ExchangedExperts): tf.Tensor2D {
  const { start, rowsToPeer, rowsFromPeer, segments, gateUp, down } = experts;
  const there_RC = exchangeRows(rows_MC, start, rowsToPeer, rowsFromPeer);
  const output_RC = expertFeedForward(there_RC, segments, gateUp, down, rowsToPeer.length);
  return exchangeRows(output_RC, start, rowsFromPeer, rowsToPeer);
}

/** Rows sent for rows received; their gradients travel back. */
function exchangeRows(
  rows: tf.Tensor2D,
  start: StartExchange,
  rowsToPeer: readonly number[],
  rowsFromPeer: readonly number[],
): tf.Tensor2D {
  const width = rows.shape[1];
  const send = (tensor: tf.Tensor, to: readonly RowRange[], from: readonly RowRange[]) => {
    const received = new Float32Array(from.at(-1)!.end * width);
    start(tensor.dataSync<'float32'>() as Float32Array, to, received, from, width).wait();
    return tf.tensor2d(received, [from.at(-1)!.end, width]);
  };
  const [to, from] = [consecutive(rowsToPeer), consecutive(rowsFromPeer)];
  if (!isRecording()) return send(rows, to, from);
  const differentiable = tf.customGrad((operand) => ({
    value: send(operand as tf.Tensor, to, from),
    gradFunc: (dy: tf.Tensor) => send(dy, from, to),
  }));
  return differentiable(rows) as tf.Tensor2D;
}

function consecutive(counts: readonly number[]): RowRange[] {
  let end = 0;
  return counts.map((count) => {
    end += count;
    return { begin: end - count, end };
  });
}

/** What is computed where the rows lie, and what travels. */
interface Plan {
  /** Own rows for own experts, among the M. */
  readonly own: RowRange;
  readonly ownSegments: readonly ExpertSegment[];
  /** For each peer, own rows for its experts, among the M; none at the own place. */
  readonly away: readonly RowRange[];
  /** For each peer, its rows, among the F; none at the own place. */
  readonly guests: readonly RowRange[];
  readonly guestSegments: readonly ExpertSegment[];
  readonly numGuests: number;
}

function planOf({ rank, rowsToPeer, rowsFromPeer, segments }: ExchangedExperts): Plan {
  const routed = consecutive(rowsToPeer);
  const guests = consecutive(rowsFromPeer.map((count, peer) => (peer === rank ? 0 : count)));
  return {
    own: routed[rank]!,
    ownSegments: packed(segments.filter(({ source }) => source === rank)),
    away: routed.map(({ begin, end }, peer) => ({ begin, end: peer === rank ? begin : end })),
    guests,
    guestSegments: packed(segments.filter(({ source }) => source !== rank)),
    numGuests: guests.at(-1)!.end,
  };
}

/** The same segments, one after the other from row 0. */
function packed(segments: readonly ExpertSegment[]): ExpertSegment[] {
  let row = 0;
  return segments.map((segment) => {
    row += segment.count;
    return { ...segment, begin: row - segment.count };
  });
}

registerFused<ExchangedExperts & { readonly saved: Saved }>({
  name: KERNEL,
  inputsToSave: ['rows'],
  forward({ floats, shape, output, recording, attributes }) {
    const { start, saved, down } = attributes;
    const { own, ownSegments, away, guests, guestSegments, numGuests } = planOf(attributes);
    const width = shape('rows')[1]!;
    const units = down.shape[2]!;
    const rows = floats('rows');
    const y = output(shape('rows'));
    const scratch = new Saved();
    const guestRows = (recording ? saved : scratch).floats('guests', numGuests * width);
    const guestOutputs = scratch.floats('outputs', numGuests * width);
    const preactivations = (name: string, count: number) =>
      recording ? saved.floats(name, count * 2 * units) : null;
    const part = (values: Float32Array) => values.subarray(own.begin * width, own.end * width);
    const computeOwn = () => {
      const kept = preactivations('own', own.end - own.begin);
      feedForwardSegments(part(rows), ownSegments, attributes, part(y.values), kept);
    };

    const arrival = start(rows, away, guestRows, guests, width);
    const guestsFirst = arrival.done;
    if (!guestsFirst) computeOwn();
    arrival.wait();
    const kept = preactivations('guestPreactivations', numGuests);
    feedForwardSegments(guestRows, guestSegments, attributes, guestOutputs, kept);
    const back = start(guestOutputs, guests, y.values, away, width);
    if (guestsFirst) computeOwn();
    back.wait();
    scratch.free();
    return y.info;
  },
  backward({ valuesOf, tensor, attributes }, [dyTensor], [rowsTensor]) {
    const { start, saved, down, rank, rowsToPeer } = attributes;
    const { own, ownSegments, away, guests, guestSegments, numGuests } = planOf(attributes);
    const width = dyTensor!.shape[1]!;
    const units = down.shape[2]!;
    const dx = tensor(dyTensor!.shape);
    const dy = valuesOf(dyTensor!);
    const scratch = new Saved();
    const dyGuests = scratch.floats('dy', numGuests * width);
    const dxGuests = scratch.floats('dx', numGuests * width);
    const part = (values: Float32Array) => values.subarray(own.begin * width, own.end * width);
    const computeOwn = () => {
      const hidden = scratch.floats('ownHidden', (own.end - own.begin) * units);
      const preactivations = saved.get('own');
      feedForwardSegmentsBackward(part(dy), ownSegments, attributes, preactivations, hidden, part(dx.values));
      const operands = { x: part(valuesOf(rowsTensor!)), preactivations, hidden, dy: part(dy) };
      contributeSegments(operands, ownSegments, attributes, [rank]);
    };

    const arrival = start(dy, away, dyGuests, guests, width);
    const guestsFirst = arrival.done;
    if (!guestsFirst) computeOwn();
    arrival.wait();
    const hidden = scratch.floats('guestHidden', numGuests * units);
    const preactivations = saved.get('guestPreactivations');
    feedForwardSegmentsBackward(dyGuests, guestSegments, attributes, preactivations, hidden, dxGuests);
    const back = start(dxGuests, guests, dx.values, away, width);
    if (guestsFirst) computeOwn();
    const operands = { x: saved.get('guests'), preactivations, hidden, dy: dyGuests };
    const others = rowsToPeer.flatMap((_, peer) => (peer === rank ? [] : [peer]));
    contributeSegments(operands, guestSegments, attributes, others);
    back.wait();
    scratch.free();
    saved.free();
    return { rows: dx.tensor };
  },
});
