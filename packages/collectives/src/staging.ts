/** Shared memory for operations on arrays that do not lie in it: they are copied in, and what has come is copied out. */

import { copyInto } from '@sluice/engine/memory';
import { arrayOver, bytesOf, type CollectiveArray, dataTypeOf, type ElementRange } from './arrays.ts';
import type { Pending } from './group.ts';

export class Staging {
  readonly #spare: SharedArrayBuffer[] = [];

  /**
   * Launches an operation that sends ranges of one array and fills those of another.
   * @param launch is given arrays in shared memory: the caller's own where they lie there
   */
  launch(
    send: CollectiveArray,
    sendRanges: readonly ElementRange[],
    receive: CollectiveArray,
    receiveRanges: readonly ElementRange[],
    launch: (send: CollectiveArray, receive: CollectiveArray) => Pending,
  ): Pending {
    const out = isShared(send) ? send : this.#take(send);
    const into = isShared(receive) ? receive : this.#take(receive);
    if (out !== send) copyRanges(send, out, sendRanges);
    const pending = launch(out, into);
    if (out === send && into === receive) return pending;
    let finished = false;
    return {
      get done() {
        return pending.done;
      },
      wait: () => {
        pending.wait();
        if (finished) return;
        finished = true;
        if (into !== receive) copyRanges(into, receive, receiveRanges);
        for (const array of [out, into]) if (array !== send && array !== receive) this.#give(array);
      },
    };
  }

  /** An array like `array`. Lengths vary from call to call, so memory is taken in generous steps and used again. */
  #take(array: CollectiveArray): CollectiveArray {
    const fitting = this.#spare.findIndex(({ byteLength }) => byteLength >= array.byteLength);
    const memory =
      fitting >= 0
        ? this.#spare.splice(fitting, 1)[0]!
        : new SharedArrayBuffer(Math.ceil((array.byteLength * 1.25) / 8) * 8);
    return arrayOver(dataTypeOf(array), memory, 0, array.length);
  }

  #give({ buffer }: CollectiveArray): void {
    this.#spare.push(buffer as SharedArrayBuffer);
    // The smallest goes when there are more than operations at a time will need.
    this.#spare.sort((a, b) => a.byteLength - b.byteLength);
    if (this.#spare.length > MOST_SPARES) this.#spare.shift();
  }
}

const MOST_SPARES = 4;

export function isShared(array: CollectiveArray): boolean {
  return array.buffer instanceof SharedArrayBuffer;
}

function copyRanges(from: CollectiveArray, to: CollectiveArray, ranges: readonly ElementRange[]): void {
  for (const { start, end } of ranges) copyInto(bytesOf(to, start, end), bytesOf(from, start, end));
}
