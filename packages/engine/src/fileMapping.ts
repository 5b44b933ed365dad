/** Files in the address space, for memory that the processes of one machine share. */

import { nativeCore } from './native.ts';

/**
 * The first `bytes` of an open file as memory: what one process writes, the others see. The file must not become
 * shorter while it is mapped; without `writable`, writing ends the process.
 * @returns undefined where the C++ core is missing, or the system refuses
 */
export function mapFile(descriptor: number, bytes: number, writable: boolean): ArrayBuffer | undefined {
  const map = nativeCore()?.mapFile as
    | ((descriptor: number, bytes: number, writable: boolean, holder: { buffer?: ArrayBuffer }) => number)
    | undefined;
  const holder: { buffer?: ArrayBuffer } = {};
  map?.(descriptor, bytes, writable, holder);
  return holder.buffer;
}
