/** The terms of a checkpoint: logical tensors, their kinds, and the pieces that workers own. */

import { BLOCK_ELEMENTS, blockHashes, invariant } from '@sluice/core';

/**
 * What can be saved of a logical tensor: its values, AdamW's running means of gradient and squared gradient, Muon's running
 * mean of the gradient; where replicas train apart, the momentum of the outer optimizer, and, of a tensor of one replica, its values
 * and what of its outer gradient is on its way to the others.
 */
export const TENSOR_KINDS = [
  'parameter',
  'firstMoment',
  'secondMoment',
  'momentum',
  'outerMomentum',
  'replica',
  'outerGradient',
] as const;

export type TensorKind = (typeof TENSOR_KINDS)[number];

/** What is saved of the tensors that AdamW trains: of all, unless it is said otherwise. */
export const ADAMW_KINDS = ['parameter', 'firstMoment', 'secondMoment'] as const satisfies TensorKind[];

/** A tensor of the model, of 32-bit floats, whole, whoever owns parts of it. */
export interface LogicalTensor {
  /** As in Hugging Face's layout, e.g. `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  readonly shape: readonly number[];
}

/** A tensor of a checkpoint, with what is saved of it where that is not what is saved of the others. */
export interface SavedTensor extends LogicalTensor {
  readonly kinds?: readonly TensorKind[] | undefined;
}

/** The tensors of which a kind is saved. */
export function tensorsOfKind<Tensor extends SavedTensor>(
  tensors: readonly Tensor[],
  kinds: readonly TensorKind[],
  kind: TensorKind,
): Tensor[] {
  return tensors.filter((tensor) => (tensor.kinds ?? kinds).includes(kind));
}

/** Elements [begin, end) of a flattened logical tensor of one kind. */
export interface Piece {
  readonly tensor: LogicalTensor;
  readonly kind: TensorKind;
  /** A multiple of BLOCK_ELEMENTS. */
  readonly begin: number;
  /** A multiple of BLOCK_ELEMENTS, or the tensor's end. */
  readonly end: number;
  /** The elements; they may lie in shared memory. */
  readonly values: Float32Array;
}

/** A piece by its content. Serialisable as JSON, a 4000th of the piece's size. */
export interface HashedPiece {
  readonly tensor: string;
  readonly kind: TensorKind;
  readonly begin: number;
  readonly end: number;
  /** SHA-256 of each block, 32 bytes each, in order, as base64. */
  readonly hashes: string;
}

/** Number of elements of a tensor; 1 for a scalar's empty shape. */
export function numElements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** How the tensors that are there differ from those that are wanted; each list in its own order. */
export interface TensorDifferences {
  /** Wanted, but not there. */
  readonly missing: readonly LogicalTensor[];
  /** There, but not wanted. */
  readonly surplus: readonly LogicalTensor[];
  /** Of another shape than the wanted one, `shape`. */
  readonly reshaped: readonly (LogicalTensor & { readonly shapeThere: readonly number[] })[];
}

export function compareTensors(
  there: readonly LogicalTensor[],
  wanted: readonly LogicalTensor[],
): TensorDifferences {
  const shapes = new Map(there.map(({ name, shape }) => [name, shape]));
  const names = new Set(wanted.map(({ name }) => name));
  return {
    missing: wanted.filter(({ name }) => !shapes.has(name)),
    surplus: there.filter(({ name }) => !names.has(name)),
    reshaped: wanted.flatMap(({ name, shape }) => {
      const shapeThere = shapes.get(name);
      return shapeThere && shapeThere.join() !== shape.join() ? [{ name, shape, shapeThere }] : [];
    }),
  };
}

const STORED_MOMENTS = {
  firstMoment: 'first_moment',
  secondMoment: 'second_moment',
  momentum: 'momentum',
  outerMomentum: 'outer_momentum',
  replica: 'value',
  outerGradient: 'outer_gradient',
};

/** The name under which a logical tensor of a kind is stored and listed; a parameter's is its plain name. */
export function storedName(kind: TensorKind, name: string): string {
  return kind === 'parameter' ? name : `optimizer.${STORED_MOMENTS[kind]}.${name}`;
}

/** Throws unless a piece lies within its tensor, on borders of blocks. */
export function checkPiece({ tensor, kind, begin, end, values }: Piece): void {
  const count = numElements(tensor.shape);
  invariant(
    begin % BLOCK_ELEMENTS === 0 &&
      (end % BLOCK_ELEMENTS === 0 || end === count) &&
      begin >= 0 &&
      begin < end &&
      end <= count,
    `[${begin}, ${end}) is no block-aligned range of ${storedName(kind, tensor.name)} with ${count} elements`,
  );
  invariant(
    values.length === end - begin,
    `${values.length} values for [${begin}, ${end}) of ${tensor.name}`,
  );
}

/** Packs hexadecimal digests, in order, into base64. */
export function packHashes(hashes: readonly string[]): string {
  return Buffer.from(hashes.join(''), 'hex').toString('base64');
}

/** The hexadecimal digests that `packHashes` packed: all, or `count` of them from the one at `first`. */
export function unpackHashes(packed: string, first = 0, count?: number): string[] {
  const hex = Buffer.from(packed, 'base64').toString('hex');
  const length = count ?? hex.length / 64 - first;
  return Array.from({ length }, (_, i) => hex.slice(64 * (first + i), 64 * (first + i + 1)));
}

/** What a worker sends for the hash of the whole to be known without a checkpoint; see `hashTensors`. */
export function hashPiece(piece: Piece): HashedPiece {
  checkPiece(piece);
  const { tensor, kind, begin, end, values } = piece;
  return { tensor: tensor.name, kind, begin, end, hashes: packHashes(blockHashes(values)) };
}
