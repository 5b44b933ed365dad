/** Tokens to the experts of other workers and back, by all-to-all. */

import { consecutiveRanges, type Group } from '@sluice/collectives';
import type { Activations, CountArrival, DeviceLink, RowRange, StartExchange } from '@sluice/engine';
import type { ExpertExchange } from '@sluice/model';

export class GroupExpertExchange implements ExpertExchange {
  readonly #group: Group;
  readonly startOnDevice: StartExchange<Activations> | undefined;

  /** @param link between the devices of the group's workers, where there is one */
  constructor(group: Group, link?: DeviceLink) {
    this.#group = group;
    this.startOnDevice =
      link && ((send, to, receive, from, width) => link.startRows(group, send, to, receive, from, width));
  }

  get rank(): number {
    return this.#group.rank;
  }

  get size(): number {
    return this.#group.size;
  }

  startCounts(counts: Int32Array): CountArrival {
    const received = new Int32Array(counts.length);
    const each = consecutiveRanges(new Array<number>(this.size).fill(counts.length / this.size));
    const pending = this.#group.allToAll(counts, each, received, each);
    return {
      get done() {
        return pending.done;
      },
      wait() {
        pending.wait();
        return received;
      },
    };
  }

  readonly startRows: StartExchange = (send, rowsToPeer, receive, rowsFromPeer, width) => {
    const elements = (ranges: readonly RowRange[]) =>
      ranges.map(({ begin, end }) => ({ start: begin * width, end: end * width }));
    return this.#group.allToAll(send, elements(rowsToPeer), receive, elements(rowsFromPeer));
  };
}
