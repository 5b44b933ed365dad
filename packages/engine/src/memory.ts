/** Memory for large arrays. */

import { callNative, nativeCore } from './native.ts';

/**
 * New memory of arbitrary content. The C++ core aligns it, so that no vector straddles two cache lines, and asks for huge
 * pages, so that walking through a matrix misses the CPU's table of pages less often.
 */
export function makeBuffer(byteLength: number): ArrayBuffer {
  const allocate = nativeCore()?.allocate as
    | ((byteLength: number, holder: { buffer?: ArrayBuffer }) => number)
    | undefined;
  const holder: { buffer?: ArrayBuffer } = {};
  allocate?.(byteLength, holder);
  return holder.buffer ?? new ArrayBuffer(byteLength);
}

/** New aligned memory of arbitrary content for `length` floats. */
export function makeFloats(length: number): Float32Array {
  return new Float32Array(makeBuffer(length * 4), 0, length);
}

const CACHE_LINE_BYTES = 64;
export const HUGE_PAGE_BYTES = 2 << 20;

/**
 * Zeroed memory that threads share, for `length` floats. It begins at a cache line where the C++ core can tell (V8's own
 * allocation begins 16 bytes after one), so that what is padded to whole lines within it lies on whole lines. Large memory is in huge
 * pages where the system grants them: other processes read it three times as fast.
 */
export function makeSharedFloats(length: number): Float32Array {
  const memory = new SharedArrayBuffer(length * 4 + CACHE_LINE_BYTES);
  const core = nativeCore();
  const beyond = core?.beyondCacheLine?.(new Float32Array(memory), 1) ?? 0;
  if (length * 4 >= HUGE_PAGE_BYTES) core?.adviseHuge?.(new Float32Array(memory), length);
  return new Float32Array(memory, (CACHE_LINE_BYTES - beyond) % CACHE_LINE_BYTES, length);
}

/** Below this a call of the C++ core costs more than it saves. */
const LEAST_COPIED_BYTES = 1 << 12;

/**
 * Copies an array to the beginning of one of the same type; they may overlap. Of memory that threads share V8 copies one word after the
 * other, and one byte after the other where both do not lie alike within words, at a sixth of the rate.
 */
export function copyInto<Type extends Float32Array | Float64Array | Int32Array | Uint8Array>(
  target: Type,
  source: Type,
): void {
  const { byteLength } = source;
  if (byteLength < LEAST_COPIED_BYTES || !nativeCore()) {
    target.set(source);
    return;
  }
  const [to, from] = [target, source].map(
    (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength),
  ) as [Uint8Array, Uint8Array];
  callNative('copyBytes', to, from, byteLength);
}
