/** Memory for large arrays. */

import { nativeCore } from './native.ts';

/** Two huge pages: of less, hardly a whole one lies inside. */
const LEAST_BYTES = 2 * 2 ** 21;

/**
 * Asks for huge pages under large memory that has not been touched yet: kernels that walk through matrices then miss the
 * CPU's table of pages less often (5 % of a large product). Without the C++ core, and where the system has none, nothing
 * happens.
 */
function preferHugePages(memory: ArrayBufferLike): void {
  if (memory.byteLength < LEAST_BYTES) return;
  const length = Math.floor(memory.byteLength / 4);
  nativeCore()?.adviseHugePages?.(new Float32Array(memory, 0, length), length);
}

/** New zeroed memory, on huge pages where that helps. */
export function makeBuffer(byteLength: number): ArrayBuffer {
  const buffer = new ArrayBuffer(byteLength);
  preferHugePages(buffer);
  return buffer;
}
