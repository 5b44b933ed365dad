/**
 * Checkpoints that are written while training goes on: one at a time, in order. Training stands still only while the state is
 * copied to memory; from there it is tried again where the disk does not take it.
 */

import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import type { StagedCheckpoint } from './checkpoints.ts';
import { isUnwritable } from './insist.ts';
import { Interludes } from './interludes.ts';
import { noteFailedSave, refuseUnsound, saveFailedForGood } from './saving.ts';
import type { TrainingRun } from './trainingRun.ts';

/** A save that is under way. */
interface Current {
  readonly step: number;
  readonly begun: number;
  /** Resolves when it is over, however that came. */
  ended: Promise<void>;
  /** Ends the pause before it is tried again. */
  readonly pause: AbortController;
  hasFailed: boolean;
  /** Whether it is not worth another attempt, since a newer state is to be saved. */
  isOutdated: boolean;
}

/** Pauses between looks at a save that is waited for, ms: from the first to the last. */
const LOOKING_MS = [1, 50] as const;

/** A timer that is to wait longer goes off at once: 24.8 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class BackgroundSaves {
  readonly #run: TrainingRun;
  readonly #between = new Interludes();
  #current: Current | undefined;
  /** By what the run is to end. */
  #fault: { readonly error: unknown } | undefined;
  /** Step of the newest checkpoint that is durable; −1 before there is one. */
  savedStep: number;

  constructor(run: TrainingRun) {
    this.#run = run;
    this.savedStep = run.savedStep;
  }

  /** Has the state written that the workers are in now, once the save before it is over. */
  async request(): Promise<void> {
    const { state, journal, observer, stage } = this.#run;
    const { step } = state;
    const begun = performance.now();
    observer.saveRequested(step);
    observer.activity('saving');
    const isFree = await this.#makeWay();
    const staged = isFree ? await stage!(state) : undefined;
    observer.activity(undefined);
    if (!staged) return this.#leaveOut(step);
    if ('unsound' in staged) return refuseUnsound(this.#run, staged.unsound);
    const seconds = (performance.now() - begun) / 1000;
    observer.saveStaged(step, seconds);
    const current: Current = {
      ...{ step, begun, hasFailed: false, isOutdated: false },
      ...{ pause: new AbortController(), ended: Promise.resolve() },
    };
    this.#current = current;
    current.ended = nextTurn()
      .then(() => journal.note('staged', step, { seconds }))
      .then(() => this.#write(current, staged))
      .catch((error: unknown) => {
        this.#fault ??= { error };
      })
      .finally(() => {
        this.#current = undefined;
      });
  }

  /** To be called between steps: what is under way speaks to the workers. @throws what ended a save, and is to end the run */
  async attend(): Promise<void> {
    if (this.#current) await this.#between.give();
    this.#throwFault();
  }

  /**
   * Waits until nothing is under way; what has failed is tried again at once.
   * @param limitMs after which it is left to itself
   * @returns whether it came to its end
   */
  async settle(limitMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const current = this.#current;
    current?.pause.abort();
    const end = performance.now() + limitMs;
    for (let pause: number = LOOKING_MS[0]; this.#current && performance.now() < end; ) {
      await this.#between.give();
      await Promise.race([this.#current?.ended, delay(pause)]);
      pause = Math.min(LOOKING_MS[1], 1.5 * pause);
    }
    this.#throwFault();
    return this.#current === undefined;
  }

  /** Ends what still needs the workers, which may be gone, and waits for what does not: a commit that has begun. */
  async abandon(reason: unknown): Promise<void> {
    this.#between.end(reason);
    const current = this.#current;
    if (!current) return;
    current.isOutdated = true;
    current.pause.abort();
    await Promise.race([current.ended, delay(this.#slowMs(), undefined, { ref: false })]);
  }

  /** Waits for the save before a new one, unless that takes too long; one that has failed already is given up. */
  async #makeWay(): Promise<boolean> {
    const current = this.#current;
    if (!current) return true;
    current.isOutdated = current.hasFailed;
    return this.settle(this.#slowMs() - (performance.now() - current.begun));
  }

  #leaveOut(step: number): void {
    const { step: before, begun } = this.#current!;
    const seconds = Math.round((performance.now() - begun) / 1000);
    const message = `Step ${before} is still being written, after ${seconds} s.`;
    noteFailedSave(this.#run, step, { message, next: 'Training goes on.' });
    if (this.#run.config.checkpoint.onFailure === 'stop') throw saveFailedForGood(step, message);
  }

  async #write(current: Current, staged: StagedCheckpoint): Promise<void> {
    const { observer, config } = this.#run;
    const { attempts, retrySeconds } = config.checkpoint;
    const { step } = current;
    for (let attempt = 1; ; attempt++) {
      try {
        const { path } = await staged.write(this.#between);
        this.savedStep = step;
        return observer.saved(step, path, (performance.now() - current.begun) / 1000);
      } catch (error) {
        if (!isUnwritable(error)) throw error;
        current.hasFailed = true;
        const isRetried = attempt < attempts && !current.isOutdated;
        this.#noteFailure(current, error.message, { attempt, isRetried });
        if (!isRetried) return;
        await delay(timerMs(retrySeconds), undefined, { signal: current.pause.signal }).catch(() => {});
      }
    }
  }

  #noteFailure(
    { step, isOutdated }: Current,
    message: string,
    { attempt, isRetried }: { attempt: number; isRetried: boolean },
  ): void {
    const { attempts, onFailure } = this.#run.config.checkpoint;
    const next = isRetried
      ? `Training goes on; trying again (${attempt} of ${attempts}).`
      : 'Training goes on; the next checkpoint holds this one’s work too.';
    noteFailedSave(this.#run, step, { message, next, isRetried });
    if (onFailure === 'stop' && !isRetried && !isOutdated) throw saveFailedForGood(step, message);
  }

  #slowMs(): number {
    return timerMs(this.#run.config.checkpoint.slowSeconds);
  }

  #throwFault(): void {
    if (this.#fault) throw this.#fault.error;
  }
}

function timerMs(seconds: number): number {
  return Math.min(1000 * seconds, LONGEST_TIMER_MS);
}
