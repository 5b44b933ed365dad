/**
 * Cases that are worked off one after the other in a process of their own. One that fails may leave the card unfit for all that the process asks
 * for afterwards, and one that never ends cannot be ended from within: so after either the rest goes on in a new process.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';

/** What the process says, a line each: what there is, which case begins, what came of it, or why there is nothing to begin with. */
export type SeriesLine<Facts, Result> =
  | { readonly names: readonly string[]; readonly facts: Facts }
  | { readonly begins: string }
  | { readonly name: string; readonly result: Result }
  | { readonly name: string; readonly failure: string }
  | { readonly unfit: string };

export interface CaseEnd<Result> {
  readonly name: string;
  readonly result?: Result;
  /** Why there is none. */
  readonly failure?: string;
}

export interface SeriesOptions<Facts> {
  /** What Node runs; it takes the names of the cases that are left as one more word of JSON, or all where there is none. */
  readonly words: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Those that are wanted; all where nothing is said. */
  readonly names?: readonly string[];
  /** For how long a case may say nothing. */
  readonly caseMs: number;
  /** When there is no time for another case, on `performance.now()`'s clock. */
  readonly endsAtMs: number;
  /** Is told of what there is, whenever a process begins. */
  readonly onFacts?: (facts: Facts) => void;
}

/** So many processes may be lost; then something is wrong with more than cases. */
const MOST_LOST = 12;
/** So many times as long as a case may a process take to begin: a driver wakes GPUs that were asleep, one after the other. */
const BEGIN_FACTOR = 3;
/** What was killed may be held by its driver for a while. */
const GONE_MS = 10_000;

/**
 * Gives each case as it ends.
 * @throws Error where no process can begin at all, or none has the time to
 */
export async function* inSeries<Facts, Result>(
  options: SeriesOptions<Facts>,
): AsyncGenerator<CaseEnd<Result>> {
  let left: string[] | undefined = options.names && [...options.names];
  let lost = 0;
  let unfit: string | undefined;
  while ((left === undefined || left.length > 0) && lost < MOST_LOST && hasTime(options)) {
    const child = new SeriesProcess<Facts, Result>(options, left);
    unfit = undefined;
    for await (const line of child.lines()) {
      if ('names' in line) {
        left ??= [...line.names];
        options.onFacts?.(line.facts);
      } else if ('unfit' in line) unfit = line.unfit;
      else if ('name' in line) {
        left = left!.filter((name) => name !== line.name);
        if ('failure' in line) lost++;
        yield line;
      }
    }
    const { underWay } = child;
    if (underWay !== undefined) {
      lost++;
      left = left!.filter((name) => name !== underWay);
      yield { name: underWay, failure: child.ending };
    } else if (unfit !== undefined || left === undefined || (left.length > 0 && !child.hasBegun)) {
      if (left === undefined) throw new Error(unfit ?? child.ending);
      lost += MOST_LOST / 2;
    }
  }
  if (left === undefined) throw new Error('there was no time to begin');
  const reason = unfit ?? (hasTime(options) ? 'too many others failed' : 'there was no time left');
  for (const name of left) yield { name, failure: `left out: ${reason}` };
}

const hasTime = ({ endsAtMs }: Pick<SeriesOptions<unknown>, 'endsAtMs'>) => performance.now() < endsAtMs;

class SeriesProcess<Facts, Result> {
  readonly #child: ChildProcess;
  readonly #options: SeriesOptions<Facts>;
  readonly #output: Interface;
  readonly #exited: Promise<void>;
  /** The case that has begun, and not ended. */
  underWay: string | undefined;
  hasBegun = false;
  /** How the process ended, in words. */
  ending = '';

  constructor(options: SeriesOptions<Facts>, names: readonly string[] | undefined) {
    this.#options = options;
    const words = [...options.words, ...(names ? [JSON.stringify(names)] : [])];
    this.#child = spawn(process.execPath, words, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: options.env,
    });
    this.#output = createInterface({ input: this.#child.stdout! });
    this.#exited = once(this.#child, 'exit').then(([code, signal]) => {
      this.ending ||= `its process ended ${signal ? `by ${signal}` : `with code ${code}`}`;
    });
  }

  /** What it says, until it ends, or is ended since it said nothing for too long. */
  async *lines(): AsyncGenerator<SeriesLine<Facts, Result>> {
    const { caseMs } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const watch = (limitMs: number) => {
      clearTimeout(timer);
      const ms = Math.max(0, Math.min(limitMs, this.#options.endsAtMs - performance.now()));
      timer = setTimeout(() => this.#end(`it did not end in ${(ms / 1000).toFixed(0)} s`), ms);
    };
    watch(BEGIN_FACTOR * caseMs);
    try {
      for await (const text of this.#output) {
        if (!text.startsWith('{')) continue;
        const line = JSON.parse(text) as SeriesLine<Facts, Result>;
        watch(caseMs);
        if ('begins' in line) {
          this.underWay = line.begins;
          this.hasBegun = true;
        } else if ('name' in line) this.underWay = undefined;
        yield line;
      }
    } finally {
      clearTimeout(timer);
      this.#child.kill('SIGKILL');
      await this.#isGone();
    }
  }

  async #isGone(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, GONE_MS);
      void this.#exited.then(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #end(why: string): void {
    this.ending = why;
    this.#child.kill('SIGKILL');
    // What holds the process holds its end of the pipe as well.
    this.#output.close();
  }
}
