/**
 * The coordinator of a run as a child of the first node's agent. What a scheduler sends to the agent does not end it, and when
 * something kills it, another takes its place: the other agents find it at the same address.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { PROGRAM } from '../program.ts';

/** How often in a row it may be killed before the agent gives up. */
const MOST_RESTARTS = 20;
const PAUSE_MS = 1000;
/** How often it is asked to stop: it may not listen yet. */
const ASK_EVERY_MS = 1000;

export class CoordinatorChild {
  /** Resolves when it has ended by itself, or was killed too often. */
  readonly ended: Promise<void>;
  #child: ChildProcess | undefined;
  #isOver = false;

  /** @param words of the command line that starts the run, or goes on with it */
  constructor(words: readonly string[], log: (line: string) => void) {
    this.ended = this.#keep(words, log);
  }

  /** Lets it end, and starts no other. */
  release(): void {
    this.#isOver = true;
  }

  /** Has it save and stop, which no agent could tell it. */
  async stop(): Promise<void> {
    this.release();
    // The one of its signals that, however often it comes, is no second word and ends nothing by force.
    const ask = () => this.#child?.kill('SIGUSR1');
    ask();
    const asking = setInterval(ask, ASK_EVERY_MS);
    await this.ended;
    clearInterval(asking);
  }

  async #keep(words: readonly string[], log: (line: string) => void): Promise<void> {
    for (let restarts = 0; restarts <= MOST_RESTARTS && !this.#isOver; restarts++) {
      const signal = await this.#run(words);
      if (signal === null || this.#isOver) return;
      log(`the coordinator was ended by ${signal}; starting it anew`);
      await delay(PAUSE_MS);
    }
  }

  /** @returns the signal that ended it; null when it ended by itself */
  #run(words: readonly string[]): Promise<NodeJS.Signals | null> {
    return new Promise((resolve) => {
      this.#child = spawn(process.execPath, [PROGRAM, ...words], {
        stdio: ['ignore', 'inherit', 'inherit'],
        detached: true,
      });
      this.#child.once('exit', (_code, signal) => resolve(signal));
      this.#child.once('error', () => resolve(null));
    });
  }
}
