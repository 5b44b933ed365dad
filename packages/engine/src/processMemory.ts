/** The memory of other processes of this machine, read where it lies (Linux, with the C++ core). */

import { nativeCore } from './native.ts';

/**
 * Where bytes lie in this process, for another to read them there, as long as they are held.
 * @returns undefined where no process can
 */
export function addressOf(bytes: Uint8Array): number | undefined {
  return nativeCore()?.addressOf?.(bytes);
}

/**
 * Fills `target` with what lies at an address of another process.
 * @returns whether it could: the process may be gone, or not this one's to read
 */
export function readProcess(process: number, address: number, target: Uint8Array): boolean {
  return nativeCore()?.readProcess?.(process, address, target, target.length) === 1;
}

/** Lets a process, and those that it has started, read this one, where the system lets only ancestors do so (Yama). */
export function letRead(process: number): void {
  nativeCore()?.letRead?.(process);
}
