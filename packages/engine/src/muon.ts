/**
 * Muon's arithmetic on one matrix (Jordan et al., 2024): momentum, Newton–Schulz iterations that bring it near the orthogonal
 * matrix that it points to, and the update, scaled so that it is as large as AdamW's would be (Liu et al., Moonlight,
 * arXiv 2502.16982).
 */

import { BLOCK_ELEMENTS, invariant } from '@sluice/core';
import { matrixProduct } from './matrixProduct.ts';
import { makeFloats } from './memory.ts';
import { callNative, nativeCore } from './native.ts';
import { squaredNorms } from './reductions.ts';

/**
 * Coefficients of the quintic x → a·x + b·x³ + c·x⁵ (https://kellerjordan.github.io/posts/muon/). They raise small singular
 * values as fast as can be, and leave all of them between about 0.7 and 1.2.
 */
const [A, B, C] = [3.4445, -4.775, 2.0315];

/** Added to the norm that a matrix is divided by before the first iteration. */
const EPSILON = 1e-7;

/** The root mean square that AdamW's updates have for a rate of 1, as Moonlight measured it. */
const ADAMW_RMS = 0.2;

/** A matrix and what Muon keeps of it: views of `rows · columns` elements, row-major. The first and the last are changed. */
export interface MuonBuffers {
  readonly parameters: Float32Array;
  readonly gradients: Float32Array;
  readonly momentum: Float32Array;
}

export interface MuonSettings {
  readonly rows: number;
  readonly columns: number;
  readonly learningRate: number;
  /** Decay of the momentum, β. */
  readonly momentumDecay: number;
  /** Newton–Schulz iterations. */
  readonly iterations: number;
  /** Decoupled: parameters shrink by learningRate · weightDecay. */
  readonly weightDecay: number;
  /** Factor on the gradients, as clipping gives it. */
  readonly gradientScale: number;
}

/** Floats of the memory that updates of matrices of these sizes need, one after the other. */
export function muonScratchElements(matrices: readonly { rows: number; columns: number }[]): number {
  const needed = matrices.map(({ rows, columns }) => 2 * rows * columns + 3 * Math.min(rows, columns) ** 2);
  return Math.max(0, ...needed);
}

/** Updates matrices one after the other, in memory that it keeps. */
export class Muon {
  readonly #scratch: Float32Array;

  /** @param scratchElements as `muonScratchElements` has it for all the matrices to come */
  constructor(scratchElements: number) {
    this.#scratch = makeFloats(scratchElements);
  }

  /**
   * One update in place: m ← βm + (1 − β)g, W ← (1 − ηλ)W − η·0.2·√max(rows, columns)·O(g + β(m − g)), where O is
   * `orthogonalize`.
   * @param sums gets for each block of BLOCK_ELEMENTS the squares of how far its elements moved and of what they were
   */
  update(buffers: MuonBuffers, settings: MuonSettings, sums: Float64Array): void {
    const { rows, columns, learningRate, momentumDecay, iterations, weightDecay, gradientScale } = settings;
    const count = rows * columns;
    for (const { length } of [buffers.parameters, buffers.gradients, buffers.momentum]) {
      invariant(length === count, `Muon got ${length} values for a matrix of ${rows} × ${columns}`);
    }
    const direction = this.#scratch.subarray(0, count);
    lookAhead(buffers, direction, gradientScale, 1 - momentumDecay);
    const orthogonal = orthogonalize(direction, rows, columns, iterations, this.#scratch.subarray(count));
    const stepSize = learningRate * ADAMW_RMS * Math.sqrt(Math.max(rows, columns));
    move(buffers.parameters, orthogonal, learningRate * weightDecay, stepSize, sums);
  }
}

/**
 * Newton–Schulz iterations: X₀ = G/(‖G‖ + ε), X ← aX + (bA + cA²)X with A = XXᵀ, or Xᵀ on the other side where that is
 * smaller. All singular values come near 1, so X comes near UVᵀ for G = UΣVᵀ.
 * @param matrix [rows, columns]; overwritten
 * @param scratch `rows · columns` and three times the square of the smaller side
 * @returns the result, in `matrix` or in `scratch`
 */
export function orthogonalize(
  matrix: Float32Array,
  rows: number,
  columns: number,
  iterations: number,
  scratch: Float32Array,
): Float32Array {
  const count = rows * columns;
  const side = Math.min(rows, columns);
  const isWide = rows <= columns;
  const [gram, scaled, polynomial] = [0, 1, 2].map((i) =>
    scratch.subarray(count + i * side ** 2, count + (i + 1) * side ** 2),
  ) as [Float32Array, Float32Array, Float32Array];
  let [x, next] = [matrix, scratch.subarray(0, count)];
  const norm = Math.sqrt(squaredNorms(x).reduce((sum, square) => sum + square, 0));
  scale(x, x, 1 / (norm + EPSILON));
  const squareSizes = { rows: side, columns: side };
  for (let iteration = 0; iteration < iterations; iteration++) {
    matrixProduct(x, x, gram, {
      ...squareSizes,
      depth: Math.max(rows, columns),
      transposeA: !isWide,
      transposeB: isWide,
    });
    // bA + A·cA
    scale(gram, scaled, C);
    polynomial.set(gram);
    matrixProduct(gram, scaled, polynomial, { ...squareSizes, depth: side, beta: B });
    next.set(x);
    const [left, right] = isWide ? [polynomial, x] : [x, polynomial];
    matrixProduct(left, right, next, { rows, columns, depth: side, beta: A });
    [x, next] = [next, x];
  }
  return x;
}

/** Updates the momentum, and writes Nesterov's direction. */
function lookAhead(
  { gradients, momentum }: MuonBuffers,
  direction: Float32Array,
  gradientScale: number,
  fresh: number,
): void {
  const { length } = direction;
  if (nativeCore()) {
    callNative('muonMomentum', gradients, momentum, direction, length, gradientScale, fresh);
    return;
  }
  for (let i = 0; i < length; i++) {
    const gradient = gradients[i]! * gradientScale;
    const mean = momentum[i]! + (gradient - momentum[i]!) * fresh;
    momentum[i] = mean;
    direction[i] = gradient + (mean - gradient) * (1 - fresh);
  }
}

function move(
  parameters: Float32Array,
  direction: Float32Array,
  decay: number,
  stepSize: number,
  sums: Float64Array,
): void {
  const { length } = parameters;
  if (nativeCore()) {
    callNative('muonUpdate', parameters, direction, sums, length, BLOCK_ELEMENTS, decay, stepSize);
    return;
  }
  sums.fill(0);
  for (let i = 0; i < length; i++) {
    const value = parameters[i]!;
    const moved = stepSize * direction[i]! + decay * value;
    const place = 2 * Math.floor(i / BLOCK_ELEMENTS);
    sums[place]! += moved ** 2;
    sums[place + 1]! += value ** 2;
    parameters[i] = value - moved;
  }
}

function scale(source: Float32Array, target: Float32Array, factor: number): void {
  if (nativeCore()) {
    callNative('scaleFloats', source, target, source.length, factor);
    return;
  }
  for (let i = 0; i < source.length; i++) target[i] = source[i]! * factor;
}
