/** Shared memory for the time of an operation. Those of a run need the same sizes again and again. */

import { sharedFloat32 } from './arrays.ts';

/** That is held ready, bytes. */
const MOST_SPARE_BYTES = 256 << 20;

export class ScratchMemory {
  readonly #spare: Uint8Array[] = [];

  take(byteLength: number): Uint8Array {
    const fitting = this.#spare.findIndex((memory) => memory.length === byteLength);
    if (fitting >= 0) return this.#spare.splice(fitting, 1)[0]!;
    const held = this.#spare.reduce((sum, memory) => sum + memory.length, 0);
    if (held > MOST_SPARE_BYTES) this.#spare.length = 0;
    const { buffer, byteOffset } = sharedFloat32(Math.ceil(byteLength / 4));
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  give(memory: Uint8Array): void {
    this.#spare.push(memory);
  }
}
