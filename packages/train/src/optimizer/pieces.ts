/** What a worker optimizes: the pieces that it owns, with views of everything that an update touches. */

import type { OwnedPiece } from '../flatSpace.ts';
import type { MatrixSize, TensorSettings } from './settings.ts';

/** By the kinds that a checkpoint calls them. */
export interface AdamWMoments {
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
}

export interface MuonMoments {
  readonly momentum: Float32Array;
}

export interface AdamWPiece extends OwnedPiece {
  readonly values: Float32Array;
  readonly settings: TensorSettings;
  readonly moments: AdamWMoments;
  readonly matrix?: undefined;
}

/** A whole matrix. */
export interface MuonPiece extends OwnedPiece {
  readonly values: Float32Array;
  readonly settings: TensorSettings;
  readonly moments: MuonMoments;
  readonly matrix: MatrixSize;
  /** Of the last update, for each block: squares of how far its elements moved, and of what they were before. */
  readonly moved: Float64Array;
}

export type OptimizedPiece = AdamWPiece | MuonPiece;

export function isMuonPiece(piece: OptimizedPiece): piece is MuonPiece {
  return piece.matrix !== undefined;
}

/** Joins neighbours of a list that follow each other in memory and are alike. */
export function joinPieces<Piece extends { readonly flatOffset: number; readonly values: Float32Array }>(
  pieces: readonly Piece[],
  isAlike: (last: Piece, next: Piece) => boolean,
  join: (last: Piece, next: Piece) => Piece,
): Piece[] {
  const joined: Piece[] = [];
  for (const piece of pieces) {
    const last = joined.at(-1);
    const follows = last && last.flatOffset + last.values.length === piece.flatOffset;
    if (follows && isAlike(last, piece)) joined[joined.length - 1] = join(last, piece);
    else joined.push(piece);
  }
  return joined;
}

/** One view of two that follow each other in one buffer. */
export function joinArrays(first: Float32Array, second: Float32Array): Float32Array {
  return new Float32Array(first.buffer, first.byteOffset, first.length + second.length);
}
