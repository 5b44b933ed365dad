/** Steps along the axes of arrays, in elements: what kernels are told of operands that are broadcast, sliced or transposed. */

import * as tf from '@tensorflow/tfjs';

/** Steps along each axis of a contiguous array. */
export function stepsOf(shape: readonly number[]): number[] {
  return shape.length === 0 ? [] : [...tf.util.computeStrides([...shape]), 1];
}

/** Steps of an operand along the axes of the shape that it is broadcast to: 0 where it is repeated. */
export function broadcastSteps(shape: readonly number[], target: readonly number[]): number[] {
  const steps = stepsOf(shape).map((step, axis) => (shape[axis] === 1 ? 0 : step));
  return [...Array<number>(target.length - shape.length).fill(0), ...steps];
}

/** Where parts of these lengths, one after the other along an axis, begin, and their shapes. */
export function partsAlong(
  shape: readonly number[],
  axis: number,
  lengths: readonly number[],
): { readonly begin: number[]; readonly shape: number[] }[] {
  let before = 0;
  return lengths.map((length) => {
    const begin = shape.map((_, i) => (i === axis ? before : 0));
    before += length;
    return { begin, shape: shape.map((size, i) => (i === axis ? length : size)) };
  });
}

export interface Axis {
  readonly size: number;
  /** Of each array. */
  readonly steps: readonly number[];
}

/**
 * The axes of a shape with the steps of several arrays along them, one at least; neighbouring ones along which all arrays lie
 * contiguously become one.
 */
export function axesOf(shape: readonly number[], steps: readonly (readonly number[])[]): Axis[] {
  const axes: Axis[] = [];
  for (const [axis, size] of shape.entries()) {
    if (size === 1) continue;
    const next = { size, steps: steps.map((array) => array[axis]!) };
    const last = axes.at(-1);
    if (last?.steps.every((step, i) => step === next.steps[i]! * size)) {
      axes[axes.length - 1] = { size: last.size * size, steps: next.steps };
    } else axes.push(next);
  }
  if (axes.length === 0) axes.push({ size: 1, steps: steps.map(() => 1) });
  return axes;
}
