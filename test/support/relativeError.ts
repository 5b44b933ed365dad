/**
 * Largest difference relative to the largest magnitude of the expected values; infinity where a difference is no number.
 * @param leastScale stands for that magnitude where all values are smaller
 */
export function relativeError(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  leastScale = Number.MIN_VALUE,
): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let scale = leastScale;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    scale = Math.max(scale, Math.abs(expected[i]!));
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return worst / scale;
}
