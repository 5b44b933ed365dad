/**
 * The journal of a run: every decision, one JSON line each, on the disk before it is acted on; what nothing waits for is
 * noted, and may come later. A crash can tear at most the last line, which the reader leaves out.
 */

import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { appendWhole, SluiceError, unreadable, writeError } from '@sluice/core';
import type { Rollback, SpikeEvent } from '@sluice/train';
import type { InitialWeights } from './initialWeights.ts';
import { messageInRun } from './runPaths.ts';

/** What a decision of each kind records, beside its step. Paths are from the run's directory. */
export interface JournalKinds {
  start: {
    /** Tells the run from others; absent in runs that began before there were ids. */
    id?: string;
    configHash: string;
    datasetHash: string;
    workers: number;
    expertParallel: number;
    /** What the run begins with; absent when that is random. */
    from?: InitialWeights;
    /** The files in the run's folder `tokenizer`; absent in runs that began before they had it. */
    tokenizer?: TokenizerRecord;
  };
  resume: {
    /** Checkpoint that the run goes on from; absent when it goes on from memory, or starts again from the beginning. */
    checkpoint?: string;
    /** Whether it goes on from copies that were left in the hosts' memory. */
    fromMemory?: boolean;
    workers: number;
    expertParallel: number;
    changes: readonly { key: string; saved: unknown; now: unknown; allowed: boolean }[];
    refusedCheckpoints: readonly { path: string; reason: string }[];
  };
  /** A fault ended the workers; others go on. */
  restart: {
    /** Checkpoint that they go on from; absent when they go on from memory, or start again from the beginning. */
    checkpoint?: string;
    /** Whether they go on from copies in the hosts' memory. */
    fromMemory?: boolean;
    /** The fault. */
    code: string;
    message: string;
    workers: number;
    expertParallel: number;
    /** Names of the hosts, where there are several. */
    hosts?: readonly string[];
  };
  /** Hosts have come while the run went on: the workers are spread over all that are there. */
  regroup: { workers: number; expertParallel: number; hosts: readonly string[] };
  resize: {
    from: { workers: number; expertParallel: number };
    to: { workers: number; expertParallel: number };
  };
  /** A checkpoint is wanted, and about to be written. */
  save: { path: string };
  /** Its state is copied to the workers' memory, and training goes on while it is written. */
  staged: {
    /** How long training stood still for it. */
    seconds: number;
  };
  /** A checkpoint could not be written; training went on. */
  saveFailed: {
    message: string;
    /** Whether it is tried again from the staged state. */
    isRetried?: boolean;
  };
  /** The checkpoint is complete: its manifest is on the disk. */
  commit: { path: string; weights: string };
  evaluate: {
    loss: number | string;
    tokens: number;
    /** Of each corpus of a mixture; a loss that is no number is null. */
    corpora?: readonly { name: string; loss: number; tokens: number }[];
  };
  nonFinite: { loss: number | string; gradientNorm: number | string; inARow: number };
  /** A worker has become slower than the others for long, or has ceased to be. */
  straggler: {
    rank: number;
    host: string;
    isSlow: boolean;
    /** Of its own work in a step to the usual worker's. */
    ratio: number;
    ownSeconds: number;
    usualSeconds: number;
    /** What most of the difference is, in words. */
    at: string;
  };
  /** Something has gone on for suspiciously long. */
  stall: {
    task: string;
    seconds: number;
    missing: readonly { rank: number; host: string; pid?: number; doing: string }[];
    /** Folder with what each worker told of itself. */
    states?: string;
  };
  spike: {
    event: SpikeEvent;
    /** Whether the update of the step was left out for it. */
    skipped?: boolean;
  };
  /** The run goes back to before a spike; the samples of the steps from there to this one are left out for good. */
  rollback: {
    decision: Rollback;
    /** Samples, in the order of the data, that are left out: from the first to before the second number. */
    leftOut: readonly [number, number];
  };
  /** A step was computed once more, and other bits came out. Where the same came out, the spike says all. */
  recheck: {
    /** Ranks that computed something else than the others, with their hosts; none where it cannot be told. */
    suspects: readonly { rank: number; host: string }[];
    first: { loss: number | string; gradientNorm: number | string };
    now: { loss: number | string; gradientNorm: number | string };
  };
  stop: {
    reason: 'finished' | 'signal' | 'lastStep' | 'nonFinite' | 'spike' | 'failed';
    message?: string;
    /** Of the steps in a row without an update, or of the spike, where these are the reason and the state is not to be used. */
    firstStep?: number;
  };
}

export type JournalKind = keyof JournalKinds;
export type JournalEntry = {
  [Kind in JournalKind]: { kind: Kind; step: number; time: string } & JournalKinds[Kind];
}[JournalKind];

export interface Journal {
  /** How many entries it has, with those that still wait to be written. */
  readonly length: number;
  /** Writes one decision; it is on the disk when the call returns. */
  append<Kind extends JournalKind>(kind: Kind, step: number, fields: JournalKinds[Kind]): void;
  /**
   * Writes down what nothing is to wait for. Where it cannot be written it is kept, and written before the next entry: later,
   * but in order.
   */
  note<Kind extends JournalKind>(kind: Kind, step: number, fields: JournalKinds[Kind]): void;
  close(): void;
}

/**
 * Opens the journal at `path` to write, making it if need be. A torn last line is cut off first.
 * @param assertOwned called before each writing; what it throws keeps this process from writing
 * @throws SLUICE_E_JOURNAL_DAMAGED, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
 */
export function openJournal(path: string, assertOwned: () => void = () => {}): Journal {
  const { handle, count } = openToAppend(path);
  let length = count;
  const waiting: string[] = [];
  const enqueue = (kind: JournalKind, step: number, fields: object) => {
    const { message } = fields as { readonly message?: string };
    const told = message === undefined ? {} : { message: messageInRun(dirname(path), message) };
    waiting.push(JSON.stringify({ kind, step, time: timeNow(), ...fields, ...told }));
    length++;
  };
  const writeAll = () => {
    for (; waiting.length > 0; waiting.shift()) appendWhole(handle, path, Buffer.from(`${waiting[0]}\n`));
    try {
      fsyncSync(handle);
    } catch (error) {
      throw writeError(path, error);
    }
  };
  return {
    get length() {
      return length;
    },
    append(kind, step, fields) {
      assertOwned();
      enqueue(kind, step, fields);
      try {
        writeAll();
      } catch (error) {
        // What was to be decided is not.
        waiting.pop();
        length--;
        throw error;
      }
    },
    note(kind, step, fields) {
      assertOwned();
      enqueue(kind, step, fields);
      tolerantly(writeAll);
    },
    close() {
      tolerantly(writeAll);
      closeSync(handle);
    },
  };
}

/** As entries have it: ISO 8601, UTC. */
export function timeNow(): string {
  return new Date().toISOString();
}

function tolerantly(write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
  }
}

function openToAppend(path: string): { readonly handle: number; readonly count: number } {
  let handle: number | undefined;
  try {
    handle = openSync(path, 'a+');
    const { entries, intactBytes } = parseJournal(readFileSync(path), path);
    ftruncateSync(handle, intactBytes);
    fsyncSync(handle);
    syncDirectory(dirname(path));
    return { handle, count: entries.length };
  } catch (error) {
    if (handle !== undefined) closeSync(handle);
    throw writeError(path, error);
  }
}

/**
 * All whole entries of the journal at `path`, oldest first; none when there is no file.
 * @throws SLUICE_E_JOURNAL_DAMAGED when a line other than the last is not an entry; SLUICE_E_FILE_MISSING when it cannot be read
 */
export function readJournal(path: string): JournalEntry[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unreadable(path, error);
  }
  return parseJournal(bytes, path).entries;
}

/** What a run began with; undefined where it never came to begin. */
export function startOf(
  journal: readonly JournalEntry[],
): Extract<JournalEntry, { kind: 'start' }> | undefined {
  return journal.find((entry) => entry.kind === 'start');
}

/** Makes the journal's name in its directory durable. */
function syncDirectory(directory: string): void {
  const handle = openSync(directory, 'r');
  fsyncSync(handle);
  closeSync(handle);
}

/** Entries, and how many bytes of the file hold them. */
function parseJournal(bytes: Buffer, path: string): { entries: JournalEntry[]; intactBytes: number } {
  const entries: JournalEntry[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10, start); end !== -1; end = bytes.indexOf(10, start)) {
    const entry = parseEntry(bytes.toString('utf8', start, end));
    if (!entry) {
      // Blocks of a file may reach the disk in any order: the last line can end in a newline and yet have a hole.
      if (end === bytes.length - 1) break;
      throw damaged(path, entries.length + 1, bytes.toString('utf8', start, end));
    }
    entries.push(entry);
    start = end + 1;
  }
  return { entries, intactBytes: start };
}

function parseEntry(line: string): JournalEntry | undefined {
  try {
    const entry = JSON.parse(line);
    return typeof entry?.kind === 'string' && typeof entry.step === 'number' ? entry : undefined;
  } catch {
    return undefined;
  }
}

function damaged(path: string, line: number, text: string): SluiceError {
  return new SluiceError(
    'SLUICE_E_JOURNAL_DAMAGED',
    `${path}:${line} is not a journal entry: ${JSON.stringify(text.slice(0, 80))}`,
    { details: { path, line } },
  );
}
