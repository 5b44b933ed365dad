/** Groups of ranks: of several, whose operations a thread of its own carries out, and of one alone. */

import { invariant } from '@sluice/core';
import { copyInto } from '@sluice/engine/memory';
import {
  bytesOf,
  type CollectiveArray,
  checkRanges,
  type ElementRange,
  type FloatWire,
  SENDS_ITSELF,
} from './arrays.ts';
import type { DirectExchange } from './directExchange.ts';
import type { Group, Pending } from './group.ts';
import type { HostGrid } from './hostGrid.ts';
import { isShared, Staging } from './staging.ts';
import type { OperationName } from './wire.ts';

/** Whoever carries out what groups launch. */
export interface Launcher {
  /** Opens a way between the ranks' main threads, for all of them or none; asked once, at the same place by all. */
  openDirect(group: Group): DirectExchange | undefined;
  launch(ranks: readonly number[], name: OperationName, args: readonly unknown[]): Pending;
}

export class ThreadGroup implements Group {
  readonly ranks: readonly number[];
  readonly rank: number;
  readonly size: number;
  readonly grid: HostGrid | undefined;
  readonly #launcher: Launcher;
  readonly #staging = new Staging();
  /** Undefined until it is first asked for; then null where there is none. */
  #direct: DirectExchange | null | undefined;
  #sequence = 0;

  constructor(launcher: Launcher, ranks: readonly number[], worldRank: number, grid: HostGrid | undefined) {
    this.ranks = ranks;
    this.rank = ranks.indexOf(worldRank);
    this.size = ranks.length;
    this.grid = grid;
    this.#launcher = launcher;
  }

  allReduce(buffer: CollectiveArray): Pending {
    checkShared(buffer);
    return this.#launch('allReduce', [buffer]);
  }

  reduceScatter(buffer: CollectiveArray, ranges: readonly ElementRange[], wire?: FloatWire): Pending {
    checkShared(buffer);
    checkRanges(ranges, this.size, buffer.length);
    return this.#launch('reduceScatter', [buffer, ranges, wire]);
  }

  allGather(buffer: CollectiveArray, ranges: readonly ElementRange[]): Pending {
    checkShared(buffer);
    checkRanges(ranges, this.size, buffer.length);
    return this.#launch('allGather', [buffer, ranges]);
  }

  allToAll(
    send: CollectiveArray,
    sendRanges: readonly ElementRange[],
    receive: CollectiveArray,
    receiveRanges: readonly ElementRange[],
  ): Pending {
    checkRanges(sendRanges, this.size, send.length);
    checkRanges(receiveRanges, this.size, receive.length);
    if (this.#direct === undefined) this.#direct = this.#launcher.openDirect(this) ?? null;
    if (this.#direct !== null) {
      return this.#direct.allToAll(this.#sequence++, send, sendRanges, receive, receiveRanges);
    }
    return this.#staging.launch(send, sendRanges, receive, receiveRanges, (out, into) =>
      this.#launch('allToAll', [out, sendRanges, into, receiveRanges]),
    );
  }

  broadcast(buffer: CollectiveArray, root: number): Pending {
    checkShared(buffer);
    return this.#launch('broadcast', [buffer, root]);
  }

  barrier(): Pending {
    return this.#launch('barrier', []);
  }

  #launch(name: OperationName, args: readonly unknown[]): Pending {
    this.#sequence += 1;
    return this.#launcher.launch(this.ranks, name, args);
  }
}

const SETTLED: Pending = { done: true, wait: () => {} };

/** A group of one rank: nothing to send, everything is done at once. Any memory will do. */
export class SoloGroup implements Group {
  readonly ranks: readonly number[];
  readonly rank = 0;
  readonly size = 1;

  constructor(worldRank = 0) {
    this.ranks = [worldRank];
  }

  allReduce(): Pending {
    return SETTLED;
  }

  reduceScatter(buffer: CollectiveArray, ranges: readonly ElementRange[]): Pending {
    checkRanges(ranges, 1, buffer.length);
    return SETTLED;
  }

  allGather(buffer: CollectiveArray, ranges: readonly ElementRange[]): Pending {
    checkRanges(ranges, 1, buffer.length);
    return SETTLED;
  }

  allToAll(
    send: CollectiveArray,
    sendRanges: readonly ElementRange[],
    receive: CollectiveArray,
    receiveRanges: readonly ElementRange[],
  ): Pending {
    checkRanges(sendRanges, 1, send.length);
    checkRanges(receiveRanges, 1, receive.length);
    const [[from], [to]] = [sendRanges, receiveRanges];
    invariant(from!.end - from!.start === to!.end - to!.start, SENDS_ITSELF);
    copyInto(bytesOf(receive, to!.start, to!.end), bytesOf(send, from!.start, from!.end));
    return SETTLED;
  }

  broadcast(): Pending {
    return SETTLED;
  }

  barrier(): Pending {
    return SETTLED;
  }
}

/** A group for one process alone, without a communicator. */
export function soloGroup(): Group {
  return new SoloGroup();
}

function checkShared(buffer: CollectiveArray): void {
  invariant(isShared(buffer), 'buffers of collectives lie in shared memory');
}
