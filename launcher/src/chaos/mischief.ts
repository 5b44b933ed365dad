/** What is done to a run, to whom and when: drawn from a seed, so that it can be told, and tried again. */

import { type RandomKey, randomKey, randomPair } from '@sluice/core';

export const KINDS = [
  'killWorker',
  'killCoordinator',
  'killAgent',
  'killHost',
  'freezeHost',
  'cutHost',
  'freezeWorker',
  'resize',
  'cutLink',
  'stallLink',
] as const;
export type Kind = (typeof KINDS)[number];

/** What a run bears without beginning anew. */
export const BORNE: ReadonlySet<Kind> = new Set(['freezeWorker', 'stallLink']);

export interface Mischief {
  readonly kind: Kind;
  /** How long after the one before, ms. */
  readonly afterMs: number;
  /** Which of several: a number from 0 to 1. */
  readonly which: number;
}

/** How often each kind is drawn, of those that there is somebody for. */
const WEIGHTS: Readonly<Record<Kind, number>> = {
  killWorker: 5,
  killCoordinator: 2,
  killAgent: 2,
  killHost: 2,
  freezeHost: 2,
  cutHost: 2,
  freezeWorker: 1,
  resize: 1,
  cutLink: 2,
  stallLink: 1,
};

export class MischiefPlan {
  readonly #key: RandomKey;
  readonly #kinds: readonly Kind[];
  readonly #meanMs: number;
  #drawn = 0;

  /**
   * @param kinds those that there is somebody for
   * @param meanMs mean time between two of them
   */
  constructor(seed: number, kinds: readonly Kind[], meanMs: number) {
    this.#key = randomKey(seed, 'mischief');
    this.#kinds = kinds;
    this.#meanMs = meanMs;
  }

  next(): Mischief {
    const [when, what] = this.#draw();
    const [which] = this.#draw();
    return { kind: this.#kindAt(what), afterMs: Math.round(when * 2 * this.#meanMs), which };
  }

  #kindAt(share: number): Kind {
    const total = this.#kinds.reduce((sum, kind) => sum + WEIGHTS[kind], 0);
    let left = share * total;
    for (const kind of this.#kinds) {
      left -= WEIGHTS[kind];
      if (left < 0) return kind;
    }
    return this.#kinds.at(-1)!;
  }

  /** Two numbers from 0 to 1. */
  #draw(): [number, number] {
    const [a, b] = randomPair(this.#key, this.#drawn++);
    return [a / 2 ** 32, b / 2 ** 32];
  }
}
