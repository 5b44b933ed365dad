/**
 * Delta rules in chunks of tokens, on tensor cores (`kernels/deltaChunks.cu`, `deltaStates.cu`, `deltaGradients.cu`). N tokens, H heads, Dk
 * channels of a key, Dv of a value, Q chunks of all documents.
 */

import { invariant } from '@sluice/core';
import { documentBounds } from '../ops/attentionLayout.ts';
import type { RecurrenceLayout } from '../ops/recurrence.ts';
import {
  CHUNK,
  chunksOf,
  type DocumentGroup,
  documentGroups,
  productLengths,
  stateLengths,
  takesChunks,
} from './deltaRuleMemory.ts';
import type { Activations, CudaDevice, DeviceArray, Kernel } from './device.ts';
import type { RecurrenceOperands, States } from './recurrenceOperands.ts';
import { allocateWork, freeWork, type WorkArrays } from './workMemory.ts';

/** Tokens of a block on a chunk's diagonal, value channels of a block, threads of a block that forms gradients. */
const [STEP, STRIP, THREADS] = [16, 64, 256];

/** What the kernels are told of a layout. */
interface Launch {
  /** [2·(documents + 1)]: of each its first row, and its first chunk among those of all. */
  readonly documents: DeviceArray<'i32'>;
  readonly documentCount: number;
  /** [2·Q]: of each its first row, and where it ends, or its document. */
  readonly chunks: DeviceArray<'i32'>;
  readonly chunkCount: number;
  /** `Chunks` of the kernels. */
  readonly struct: Int32Array;
  /** Channels of tiles of keys. */
  readonly tile: 64 | 128;
  readonly kernel: (file: string, name: string) => Kernel;
}

function launchOf(device: CudaDevice, layout: RecurrenceLayout): Launch {
  const { heads, keyDim, valueDim } = layout;
  const bounds = [...documentBounds(layout)];
  const counts = chunksOf(layout);
  const documents = () => {
    let chunk = 0;
    return bounds.flatMap((begin, i) => {
      const own = [begin, chunk];
      chunk += counts[i] ?? 0;
      return own;
    });
  };
  const chunks = () =>
    counts.flatMap((count, i) =>
      Array.from({ length: count }, (_, chunk) => {
        const first = bounds[i]! + chunk * CHUNK;
        return [first, Math.min(first + CHUNK, bounds[i + 1]!)];
      }).flat(),
    );
  const kept = (what: string, values: () => number[]) =>
    device.copies.of(`${what} of ${bounds}`, () => device.upload(Int32Array.from(values()), 'i32'));
  const struct = new Int32Array([heads, keyDim, valueDim, 0]);
  new Float32Array(struct.buffer)[3] = keyDim ** -0.5;
  return {
    documents: kept('documents in chunks', documents),
    documentCount: counts.length,
    chunks: kept('rows of chunks', chunks),
    chunkCount: counts.reduce((sum, count) => sum + count, 0),
    struct,
    tile: keyDim <= 64 ? 64 : 128,
    kernel: (file, name) => device.kernel(file, name),
  };
}

/** Bytes of tiles and arrays in shared memory. */
const square = 2 * CHUNK * CHUNK;
const tileBytes = (channels: number) => 2 * CHUNK * channels;
const sumsBytes = (tile: number, isOfChannels: boolean) => 4 * CHUNK * (isOfChannels ? tile : 1);

function productBytes(tile: number, isOfChannels: boolean): number {
  return (
    aligned(sumsBytes(tile, isOfChannels) + 4 * CHUNK) +
    4 * square +
    Math.max(2 * tileBytes(tile), 4 * CHUNK * CHUNK)
  );
}

/** Tiles lie at multiples of 128 bytes. */
function aligned(bytes: number): number {
  return 128 * Math.ceil(bytes / 128);
}

function gradientBytes(tile: number, isOfChannels: boolean): number {
  const crossing = isOfChannels ? 2 * (CHUNK / STEP) * tile : 2;
  const sums = 4 * (tile * (CHUNK / STEP + THREADS / tile) + crossing + 2 * CHUNK + 1);
  const squares = 2 * square + Math.max(2 * tileBytes(tile), sumsBytes(tile, isOfChannels));
  const strip = 3 * square + 2 * tileBytes(tile);
  return aligned(sumsBytes(tile, isOfChannels) + 4 * CHUNK + sums) + Math.max(squares, strip);
}

type Products = WorkArrays<ReturnType<typeof productLengths>>;

/** Computes what does not depend on states, for all chunks side by side. */
function computeProducts(
  { q, k, beta, g }: RecurrenceOperands,
  { decayedQ, decayedK, x, whole, w }: Products,
  t: DeviceArray | null,
  launch: Launch,
  { heads, decays }: RecurrenceLayout,
): void {
  const { tile, chunks, chunkCount, struct } = launch;
  const isOfChannels = decays > 1;
  launch
    .kernel('deltaChunks', `deltaChunks${isOfChannels ? 'OfChannels' : ''}${tile}`)
    .launch(
      [chunkCount, heads],
      productBytes(tile, isOfChannels),
      ...[q, k, beta, g, decayedQ, decayedK, x, whole, w, t, chunks, struct],
    );
}

interface Scanned extends States {
  readonly y?: Activations;
  readonly states?: DeviceArray;
  readonly t?: DeviceArray;
  /** For which T is needed. */
  readonly u?: DeviceArray;
}

/** Goes through the chunks of all documents, from first to last. */
function scan(
  v: Activations,
  { decayedQ, decayedK, x, whole, w }: Products,
  { y, states, t, u, before, after }: Scanned,
  launch: Launch,
  { heads, valueDim }: RecurrenceLayout,
): void {
  const { tile, documents, documentCount, struct } = launch;
  const others = [t, y, states, u, before, after].map((array) => array ?? null);
  launch
    .kernel('deltaStates', `deltaStates${tile}`)
    .launch(
      [Math.ceil(valueDim / STRIP), heads, documentCount],
      3 * tileBytes(tile) + 3 * square,
      ...[v, decayedQ, decayedK, x, whole, w, ...others, documents, struct],
    );
}

type Named = Readonly<Record<keyof ReturnType<typeof widthsOf>, DeviceArray>>;

function check(arrays: Partial<Named>, layout: RecurrenceLayout): void {
  const { batch, sequence, keyDim, valueDim } = layout;
  invariant(takesChunks(layout, 'bf16'), `a state of ${keyDim} × ${valueDim} in chunks`);
  for (const [name, width] of Object.entries(widthsOf(layout))) {
    const { length } = arrays[name as keyof Named] ?? {};
    const expected = batch * sequence * width;
    invariant(length === undefined || length === expected, `${name} of ${length} values, not ${expected}`);
  }
}

/** Of each array the rows of a group's documents. @param layout of all */
function rowsOf<A extends Partial<Named>>(arrays: A, group: DocumentGroup, layout: RecurrenceLayout): A {
  const { begin } = group;
  const [rows, widths] = [group.layout.batch * group.layout.sequence, widthsOf(layout)];
  const cut = Object.entries(arrays).map(([name, array]) => {
    const width = widths[name as keyof Named];
    return [name, array.subarray(begin * width, (begin + rows) * width)];
  });
  return Object.fromEntries(cut) as A;
}

function widthsOf({ heads, keyDim, valueDim, decays }: RecurrenceLayout) {
  const [keys, values] = [heads * keyDim, heads * valueDim];
  return { q: keys, k: keys, v: values, beta: heads, g: heads * decays, y: values, dy: values };
}

/** `deltaRule` of operands in bf16. @param mostBytes that whole documents work in together */
export function deltaChunks(
  operands: RecurrenceOperands,
  y: Activations,
  layout: RecurrenceLayout,
  states: States = {},
  mostBytes?: number,
): void {
  check({ ...operands, y }, layout);
  for (const group of documentGroups(layout, false, mostBytes)) {
    const { y: ownY, ...own } = rowsOf({ ...operands, y }, group, layout);
    computeOutputs(own, ownY, group.layout, states);
  }
}

function computeOutputs(
  operands: RecurrenceOperands,
  y: Activations,
  layout: RecurrenceLayout,
  states: States,
): void {
  const { device } = y;
  const launch = launchOf(device, layout);
  if (launch.chunkCount === 0) return;
  const products = allocateWork(device, productLengths(layout));
  computeProducts(operands, products, null, launch, layout);
  scan(operands.v, products, { y, ...states }, launch, layout);
  freeWork(device, products);
}

type OperandsAndSlope = RecurrenceOperands & { readonly dy: Activations };

/** `deltaRuleBackward` of operands in bf16. */
export function deltaChunksBackward(
  operands: OperandsAndSlope,
  gradients: RecurrenceOperands,
  layout: RecurrenceLayout,
  mostBytes?: number,
): void {
  check(operands, layout);
  check(gradients, layout);
  for (const group of documentGroups(layout, true, mostBytes)) {
    const [own, ownGradients] = [rowsOf(operands, group, layout), rowsOf(gradients, group, layout)];
    computeGradients(own, ownGradients, group.layout);
  }
}

/** Products and states once more, then the way back through states, and all other gradients. */
function computeGradients(
  operands: OperandsAndSlope,
  gradients: RecurrenceOperands,
  layout: RecurrenceLayout,
): void {
  const { q, k, v, beta, g, dy } = operands;
  const { heads, valueDim, decays } = layout;
  const { device } = q;
  const launch = launchOf(device, layout);
  const { tile, documents, documentCount, chunks, chunkCount, struct } = launch;
  if (chunkCount === 0) return;
  const products = allocateWork(device, productLengths(layout));
  const work = allocateWork(device, stateLengths(layout));
  const { states, dStates, u, t } = work;
  computeProducts(operands, products, t, launch, layout);
  scan(v, products, { states, t, u }, launch, layout);
  const { decayedQ, decayedK, x, whole, w } = products;
  launch
    .kernel('deltaStates', `deltaStatesBackward${tile}`)
    .launch(
      [Math.ceil(valueDim / STRIP), heads, documentCount],
      3 * tileBytes(tile) + 2 * square,
      ...[dy, decayedQ, decayedK, x, whole, w, dStates, gradients.v, documents, struct],
    );
  const isOfChannels = decays > 1;
  launch
    .kernel('deltaGradients', `deltaGradients${isOfChannels ? 'OfChannels' : ''}${tile}`)
    .launch(
      [chunkCount, heads],
      gradientBytes(tile, isOfChannels),
      ...[q, k, beta, g, dy, u, gradients.v, states, dStates],
      ...[gradients.q, gradients.k, gradients.beta, gradients.g, chunks, struct],
    );
  freeWork(device, products);
  freeWork(device, work);
}
