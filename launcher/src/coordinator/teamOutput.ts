/**
 * What the workers of one start print: onto the console, with who says it in front, and each worker's into a file of its own
 * (`logs/start-0003/rank-2.log`). Neither may stop a run: a file that cannot be written is missing, and that is told once.
 */

import { closeSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { appendWhole, makeDirectories } from '@sluice/core';
import { FoldedLines } from './foldedLines.ts';

export interface TeamOutputOptions {
  /** Workers of this start. */
  readonly count: number;
  /** Receives lines for people. */
  readonly tell: (line: string) => void;
  /** Where the folders of starts lie; no files are written when left out. */
  readonly directory?: string | undefined;
}

/** One worker's part of it. */
export interface WorkerOutput {
  line(text: string): void;
  /**
   * @param how in words
   * @param inOrder whether the coordinator wanted it to end
   */
  ended(how: string, inOrder: boolean): void;
}

export class TeamOutput {
  readonly #tell: (line: string) => void;
  readonly #console: FoldedLines;
  readonly #directory: string | undefined;
  readonly #handles = new Set<number>();
  /** The worker that failed first. */
  #failed: string | undefined;
  #isIncomplete = false;

  constructor({ count, tell, directory }: TeamOutputOptions) {
    this.#tell = tell;
    this.#console = count === 1 ? new FoldedLines(tell, 0) : new FoldedLines(tell);
    this.#directory = this.#tolerantly(() => directory && nextStart(directory));
  }

  /**
   * Begins a worker's output.
   * @param name what people call the worker
   * @param facts what its file begins with
   */
  open(rank: number, name: string, facts: string): WorkerOutput {
    const path = this.#directory === undefined ? undefined : join(this.#directory, `rank-${rank}.log`);
    const handle = path === undefined ? undefined : this.#tolerantly(() => openSync(path, 'a'));
    if (handle !== undefined) this.#handles.add(handle);
    const write = (text: string) => {
      if (handle === undefined || path === undefined || !this.#handles.has(handle)) return;
      const time = new Date().toISOString();
      this.#tolerantly(() => appendWhole(handle, path, Buffer.from(`${time} ${text}\n`)));
    };
    write(`# ${facts}`);
    return {
      line: (text) => {
        write(text);
        this.#console.add(this.#nameNow(name), text);
      },
      ended: (how, inOrder) => {
        write(`# ended by ${how}${inOrder ? ', as the coordinator wanted' : this.#after(name)}`);
        // One that ends by itself after the first is not told as the fault, but not passed over either.
        if (!inOrder && this.#after(name) !== '') this.#console.add(this.#nameNow(name), `ended by ${how}`);
        this.#console.flush();
        if (handle !== undefined && this.#handles.delete(handle)) closeSync(handle);
      },
    };
  }

  /**
   * Keeps what is known of the workers at a moment, a JSON file each.
   * @param name of the folder for them
   * @param states by rank
   * @returns the folder; undefined where it cannot be written
   */
  keepStates(name: string, states: ReadonlyMap<number, object>): string | undefined {
    if (this.#directory === undefined) return undefined;
    const folder = join(this.#directory, name);
    return this.#tolerantly(() => {
      mkdirSync(folder);
      for (const [rank, state] of states) {
        writeFileSync(join(folder, `rank-${rank}.json`), `${JSON.stringify(state, undefined, 1)}\n`);
      }
      return folder;
    });
  }

  /** From here on, what others say may follow from this worker's failure. */
  noteFailure(name: string): void {
    this.#failed ??= name;
  }

  close(): void {
    this.#console.flush();
    for (const handle of this.#handles) closeSync(handle);
    this.#handles.clear();
  }

  #nameNow(name: string): string {
    return `${name}${this.#after(name)}`;
  }

  #after(name: string): string {
    return this.#failed === undefined || this.#failed === name ? '' : `, after ${this.#failed} failed`;
  }

  #tolerantly<T>(write: () => T): T | undefined {
    try {
      return write();
    } catch (error) {
      // Of the operating system, whatever it is.
      const { code, message } = error as NodeJS.ErrnoException;
      if (typeof code !== 'string') throw error;
      if (!this.#isIncomplete) {
        this.#tell(`${message} Training goes on; the workers' logs of this start are not whole.`);
      }
      this.#isIncomplete = true;
      return undefined;
    }
  }
}

/** Starts whose folders are kept, the newest: a run of weeks has thousands. */
const KEPT_STARTS = 20;

/** Makes the folder of the next start, and removes those of long ago. */
function nextStart(directory: string): string {
  makeDirectories(directory);
  const starts = readdirSync(directory)
    .flatMap((name) => /^start-(\d+)$/.exec(name)?.[1] ?? [])
    .sort((a, b) => Number(a) - Number(b));
  const next = join(directory, `start-${String(Number(starts.at(-1) ?? 0) + 1).padStart(4, '0')}`);
  makeDirectories(next);
  for (const old of starts.slice(0, Math.max(0, starts.length + 1 - KEPT_STARTS))) {
    rmSync(join(directory, `start-${old}`), { recursive: true, force: true });
  }
  return next;
}
