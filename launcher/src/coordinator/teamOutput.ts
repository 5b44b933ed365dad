/**
 * What the workers of one start print: onto the console, with who says it in front, and each worker's into a file of its own
 * (`logs/start-0003/rank-2.log`). Neither may stop a run: a file that cannot be written is missing, and that is told once.
 */

import { closeSync, openSync, readdirSync } from 'node:fs';
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

/** Makes the folder of the next start. */
function nextStart(directory: string): string {
  makeDirectories(directory);
  const numbers = readdirSync(directory).map((name) => Number(/^start-(\d+)$/.exec(name)?.[1] ?? 0));
  const next = join(directory, `start-${String(Math.max(0, ...numbers) + 1).padStart(4, '0')}`);
  makeDirectories(next);
  return next;
}
