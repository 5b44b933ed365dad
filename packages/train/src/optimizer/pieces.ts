/** What a worker optimizes: the pieces that it owns, with views of everything that an update touches. */

import { BLOCK_ELEMENTS } from '@sluice/core';
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

interface Updated extends OwnedPiece {
  readonly values: Float32Array;
  readonly settings: TensorSettings;
  /** Number of its first block in the whole model. */
  readonly firstBlock: number;
  /** Of the last update, for each block: squares of how far its elements moved, and of what they were before. */
  readonly moved: Float64Array;
}

export interface AdamWPiece extends Updated {
  readonly moments: AdamWMoments;
  readonly matrix?: undefined;
}

/** A whole matrix. */
export interface MuonPiece extends Updated {
  readonly moments: MuonMoments;
  readonly matrix: MatrixSize;
}

export type OptimizedPiece = AdamWPiece | MuonPiece;

export function isMuonPiece(piece: OptimizedPiece): piece is MuonPiece {
  return piece.matrix !== undefined;
}

/** Joins neighbours of a list that follow each other in memory and in the numbers of their blocks, and are alike. */
export function joinPieces<Piece extends Pick<OptimizedPiece, 'flatOffset' | 'firstBlock' | 'values'>>(
  pieces: readonly Piece[],
  isAlike: (last: Piece, next: Piece) => boolean,
  join: (last: Piece, next: Piece) => Piece,
): Piece[] {
  const joined: Piece[] = [];
  for (const piece of pieces) {
    const last = joined.at(-1);
    const follows =
      last &&
      last.flatOffset + last.values.length === piece.flatOffset &&
      last.firstBlock + last.values.length / BLOCK_ELEMENTS === piece.firstBlock;
    if (follows && isAlike(last, piece)) joined[joined.length - 1] = join(last, piece);
    else joined.push(piece);
  }
  return joined;
}

/** One view of two that follow each other in one buffer. */
export function joinFloats(first: Float32Array, second: Float32Array): Float32Array {
  return new Float32Array(first.buffer, first.byteOffset, first.length + second.length);
}

/** The same of double precision. */
export function joinDoubles(first: Float64Array, second: Float64Array): Float64Array {
  return new Float64Array(first.buffer, first.byteOffset, first.length + second.length);
}
