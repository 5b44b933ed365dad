/**
 * Gated feed-forward of experts that several peers hold: rows travel to the peers of their experts, and what these
 * compute travels back; gradients go the same ways. The only operation whose result depends on a peer.
 *
 * Own rows for own experts stay where they are, and are computed while others travel. On a host, before the peers' rows, unless these
 * have come already, so that their peer waits less. While their numbers travel, expert by expert is computed and looked each time, so
 * that rows leave as soon as they can, and there is something left to do while they travel. None of the orders changes a bit.
 * (`cuda/ops/exchangedExperts.ts` has that of a device.)
 *
 * Shapes: M own rows, by the peer of their expert; R rows for own experts, by the peer that they come from; F of these come
 * from other peers; C channels, I hidden units of an expert.
 */

import * as tf from '@tensorflow/tfjs';
import type { Activations } from '../cuda/device.ts';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import type { Parameter } from '../parameter.ts';
import { isRecording } from '../tape.ts';
import {
  contributeSegments,
  type ExpertSegment,
  expertFeedForward,
  expertSegments,
  feedForwardSegments,
  feedForwardSegmentsBackward,
} from './expertFeedForward.ts';

export const EXCHANGED_EXPERTS = fusedOperation<ExchangedExperts & { readonly kept: Kept }>({
  name: 'SluiceExpertFeedForwardExchanged',
  inputsToSave: ['rows'],
});

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
 * Begins to send rows of `send`, each of `width` values, to each peer, and to receive rows of `receive` from it: one range
 * for each peer, which may be empty.
 */
export type StartExchange<Values = Float32Array> = (
  send: Values,
  rowsToPeer: readonly RowRange[],
  receive: Values,
  rowsFromPeer: readonly RowRange[],
  width: number,
) => RowArrival;

/** Numbers of rows on their way. */
export interface CountArrival {
  readonly done: boolean;
  /** Blocks until they have come: rows from each peer for each own expert, [peers · own experts], peer-major. */
  wait(): Int32Array;
}

export interface ExchangedExperts {
  readonly start: StartExchange;
  /** The same from device to device, where these are linked; see `DeviceLink`. */
  readonly startOnDevice?: StartExchange<Activations> | undefined;
  /** Own place among the peers. */
  readonly rank: number;
  readonly peers: number;
  /** Own rows for each expert of each peer, [peers · experts of a peer], peer-major. */
  readonly counts: Int32Array;
  /** The same that peers have for the own experts. */
  readonly received: CountArrival;
  /** Shape [own experts, 2I, C] */
  readonly gateUp: Parameter;
  /** Shape [own experts, C, I] */
  readonly down: Parameter;
  /** Of the hidden units' two factors, as `gatedFeedForward` has it; none when left out. */
  readonly limit?: number | undefined;
}

/**
 * @param rows_MC rows in order of the peers that hold their experts
 * @returns [M, C], in the same order
 */
export function exchangedExperts(rows_MC: tf.Tensor2D, experts: ExchangedExperts): tf.Tensor2D {
  if (hasFused(EXCHANGED_EXPERTS))
    return runFused(EXCHANGED_EXPERTS, { rows: rows_MC }, { ...experts, kept: {} });
  return exchangedExpertsReference(rows_MC, experts);
}

export function exchangedExpertsReference(rows_MC: tf.Tensor2D, experts: ExchangedExperts): tf.Tensor2D {
  const { peers, counts, gateUp, down, limit } = experts;
  const received = experts.received.wait();
  const segments = expertSegments(received, peers);
  const [rowsToPeer, rowsFromPeer] = [sumParts(counts, peers), sumParts(received, peers)];
  const there_RC = exchangeRows(rows_MC, experts, rowsToPeer, rowsFromPeer);
  const output_RC = expertFeedForward(there_RC, segments, gateUp, down, rowsToPeer.length, limit);
  return exchangeRows(output_RC, experts, rowsFromPeer, rowsToPeer);
}

/** Rows sent for rows received; their gradients travel back. */
function exchangeRows(
  rows: tf.Tensor2D,
  { start }: ExchangedExperts,
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

function sumParts(counts: Int32Array, parts: number): number[] {
  const length = counts.length / parts;
  return Array.from({ length: parts }, (_, part) =>
    counts.subarray(part * length, (part + 1) * length).reduce((sum, count) => sum + count, 0),
  );
}

/** What is computed where the rows lie, and what travels from here. */
export interface OwnRows {
  /** Own rows for own experts, among the M. */
  readonly own: RowRange;
  readonly ownSegments: readonly ExpertSegment[];
  /** For each peer, own rows for its experts, among the M; none at the own place. */
  readonly away: readonly RowRange[];
}

/** What comes. */
export interface Guests {
  /** For each peer, its rows, among the F; none at the own place. */
  readonly guests: readonly RowRange[];
  readonly guestSegments: readonly ExpertSegment[];
  readonly numGuests: number;
}

export function ownRows({ rank, peers, counts }: ExchangedExperts): OwnRows {
  const routed = consecutive(sumParts(counts, peers));
  return {
    own: routed[rank]!,
    ownSegments: packed(expertSegments(counts, peers).filter(({ source }) => source === rank)),
    away: routed.map(({ begin, end }, peer) => ({ begin, end: peer === rank ? begin : end })),
  };
}

export function guestsOf({ rank, peers }: ExchangedExperts, received: Int32Array): Guests {
  const counts = sumParts(received, peers);
  const guests = consecutive(counts.map((count, peer) => (peer === rank ? 0 : count)));
  return {
    guests,
    guestSegments: packed(expertSegments(received, peers).filter(({ source }) => source !== rank)),
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

/** What the forward pass leaves for the backward pass. */
interface Kept {
  guests?: Guests;
}

implementFused('native', EXCHANGED_EXPERTS, {
  forward({ input, shape, output, recording, saved, attributes }) {
    const { start, received, kept, down } = attributes;
    const { own, ownSegments, away } = ownRows(attributes);
    const width = shape('rows')[1]!;
    const rows = input('rows');
    const y = output(shape('rows'));
    const preactivations = (name: string, count: number) =>
      recording ? saved.floats(name, count * 2 * down.shape[2]!) : null;
    const part = (values: Float32Array) => values.subarray(own.begin * width, own.end * width);
    const ofOwn = preactivations('own', own.end - own.begin);
    const ownWork = new OwnWork(ownSegments, (segments) =>
      feedForwardSegments(part(rows), segments, attributes, part(y.values), ofOwn),
    );

    ownWork.until(received);
    const plan = guestsOf(attributes, received.wait());
    kept.guests = plan;
    const { guests, guestSegments, numGuests } = plan;
    const guestRows = saved.floats('guests', numGuests * width);
    const guestOutputs = saved.floats('outputs', numGuests * width);
    const arrival = start(rows, away, guestRows, guests, width);
    ownWork.until(arrival);
    arrival.wait();
    const ofGuests = preactivations('guestPreactivations', numGuests);
    feedForwardSegments(guestRows, guestSegments, attributes, guestOutputs, ofGuests);
    const back = start(guestOutputs, guests, y.values, away, width);
    ownWork.finish();
    back.wait();
    saved.free('outputs');
    return y.info;
  },
  backward({ valuesOf, tensor, saved, attributes }, [dyTensor], [rowsTensor]) {
    const { start, kept, down, rank, peers } = attributes;
    const { own, ownSegments, away } = ownRows(attributes);
    const { guests, guestSegments, numGuests } = kept.guests!;
    const width = dyTensor!.shape[1]!;
    const units = down.shape[2]!;
    const dx = tensor(dyTensor!.shape);
    const dy = valuesOf(dyTensor!);
    const dyGuests = saved.floats('dy', numGuests * width);
    const dxGuests = saved.floats('dx', numGuests * width);
    const part = (values: Float32Array) => values.subarray(own.begin * width, own.end * width);
    const ofOwn = {
      x: part(valuesOf(rowsTensor!)),
      preactivations: saved.floats('own'),
      hidden: saved.floats('ownHidden', (own.end - own.begin) * units),
      dy: part(dy),
    };
    const ownWork = new OwnWork(ownSegments, (segments) =>
      feedForwardSegmentsBackward(
        ...([ofOwn.dy, segments, attributes] as const),
        ...([ofOwn.preactivations, ofOwn.hidden, part(dx.values)] as const),
      ),
    );

    const arrival = start(dy, away, dyGuests, guests, width);
    ownWork.until(arrival);
    arrival.wait();
    const hidden = saved.floats('guestHidden', numGuests * units);
    const preactivations = saved.floats('guestPreactivations');
    feedForwardSegmentsBackward(dyGuests, guestSegments, attributes, preactivations, hidden, dxGuests);
    const back = start(dxGuests, guests, dx.values, away, width);
    ownWork.finish();
    contributeSegments(ofOwn, ownSegments, attributes, [rank]);
    const operands = { x: saved.floats('guests'), preactivations, hidden, dy: dyGuests };
    const others = Array.from({ length: peers }, (_, peer) => peer).filter((peer) => peer !== rank);
    contributeSegments(operands, guestSegments, attributes, others);
    back.wait();
    return { rows: dx.tensor };
  },
});

/** What is done with own rows, once, while others travel. */
class OwnWork {
  readonly #left: ExpertSegment[];
  readonly #compute: (segments: readonly ExpertSegment[]) => void;

  constructor(segments: readonly ExpertSegment[], compute: (segments: readonly ExpertSegment[]) => void) {
    this.#left = segments.filter(({ count }) => count > 0);
    this.#compute = compute;
  }

  /** Goes on, expert by expert, until something has come, or all is done. */
  until(arrival: { readonly done: boolean }): void {
    while (this.#left.length > 0 && !arrival.done) this.#compute([this.#left.shift()!]);
  }

  /** Does what is left at once, so that threads share it. */
  finish(): void {
    if (this.#left.length > 0) this.#compute(this.#left.splice(0));
  }
}
