/**
 * Gives the memory of received frames back in time. Each is a JavaScript object over memory of ZeroMQ, freed when the
 * object is collected. Left alone, V8 sees tens of MiB outside its heap and marks that whole heap, again and again:
 * more work than moving the bytes. A collection of the young objects alone costs next to nothing.
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Bytes of frames after which young objects are collected. */
const COLLECT_BYTES = 4 << 20;

type Collect = (options: { type: 'minor' }) => void;

let collect: Collect | undefined;

function exposedCollector(): Collect {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as Collect;
}

export class FrameMemory {
  #dropped = 0;

  /** A frame of so many bytes has been used. Resolves when memory has been given back, if it was time. */
  async dropped(bytes: number): Promise<void> {
    this.#dropped += bytes;
    if (this.#dropped < COLLECT_BYTES) return;
    this.#dropped = 0;
    collect ??= exposedCollector();
    collect({ type: 'minor' });
    // The memory itself is freed by callbacks that wait for their turn of the loop.
    await new Promise(setImmediate);
  }
}
