/** The runs that somebody looks at, each followed once; one that nobody looks at any more is kept for a while. */

import { RunFollower } from './runFollower.ts';

/** Runs that are followed though nobody looks. */
const KEPT = 6;

interface Followed {
  readonly follower: RunFollower;
  users: number;
}

export class Followers {
  /** Last used last. */
  readonly #followed = new Map<string, Followed>();

  /** @returns the follower, and what to call when it is not looked at any more */
  use(path: string): { readonly follower: RunFollower; readonly release: () => void } {
    const known = this.#followed.get(path) ?? { follower: new RunFollower(path), users: 0 };
    this.#followed.delete(path);
    this.#followed.set(path, known);
    known.users++;
    return {
      follower: known.follower,
      release: () => {
        known.users--;
        this.#forgetOldest();
      },
    };
  }

  close(): void {
    for (const { follower } of this.#followed.values()) follower.close();
    this.#followed.clear();
  }

  #forgetOldest(): void {
    const idle = [...this.#followed].filter(([, { users }]) => users === 0);
    for (const [path, { follower }] of idle.slice(0, Math.max(0, idle.length - KEPT))) {
      follower.close();
      this.#followed.delete(path);
    }
  }
}
