/** The memory of other processes of this machine, read where it lies (Linux, with the C++ core). */

import { readFileSync } from 'node:fs';
import { HUGE_PAGE_BYTES, makeSharedFloats } from './memory.ts';
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

/** Huge pages that are asked for, to see whether there are any. */
const TRIED_PAGES = 8;

/**
 * Whether large memory that threads share lies in huge pages now. The system may allow them and still have none, when its free memory is
 * in small pieces: asking for some tells. Without them, others read this process's memory at a third of the rate.
 */
export function getsHugePages(): boolean {
  const tried = makeSharedFloats((TRIED_PAGES * HUGE_PAGE_BYTES) / 4);
  const address = addressOf(new Uint8Array(tried.buffer));
  if (address === undefined) return false;
  const hugeBytes = () => hugeBytesOf(readMappings(), address, tried.buffer.byteLength);
  const before = hugeBytes();
  for (let page = 0; page < TRIED_PAGES; page++) tried[(page * HUGE_PAGE_BYTES) / 4] = 1;
  // At either end lies a part of a page.
  return hugeBytes() - before >= (TRIED_PAGES / 2) * HUGE_PAGE_BYTES;
}

function readMappings(): string {
  try {
    return readFileSync('/proc/self/smaps', 'latin1');
  } catch {
    return '';
  }
}

/** @param mappings as Linux lists them (proc(5), smaps): bytes in huge pages of those in which some of the range lies */
export function hugeBytesOf(mappings: string, address: number, byteLength: number): number {
  let isWithin = false;
  let bytes = 0;
  for (const line of mappings.split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range) {
      const [start, end] = [range[1]!, range[2]!].map((text) => Number.parseInt(text, 16));
      isWithin = start! < address + byteLength && end! > address;
    } else if (isWithin) {
      bytes += 1024 * Number(/^(?:AnonHugePages|ShmemPmdMapped): +(\d+) kB/.exec(line)?.[1] ?? 0);
    }
  }
  return bytes;
}
