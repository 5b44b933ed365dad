import { createHash, type Hash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { randomKey, randomUniform } from '@sluice/core';
import type { SplitName } from './manifest.ts';
import type { DataRecipe } from './recipe.ts';
import { type IntakeCounts, noCounts, type TextSourceReader } from './sources/source.ts';

/** A part of a document, with what is decided about the document. */
export interface SplitPart {
  readonly source: number;
  readonly name: string;
  readonly text: string;
  /** Length of the text in UTF-8. */
  readonly bytes: number;
  readonly first: boolean;
  readonly last: boolean;
  readonly split: SplitName;
  /** A number in [0, 1) that the document's text decides, for drawing samples of documents. */
  readonly lot: number;
}

/** Text read between two turns of the event loop, so that a signal or a progress bar is served. */
const BYTES_A_TURN = 1 << 18;

/** White space of JavaScript, which U+FEFF is too, and U+0085, which is white space of Unicode only. */
const BLANK = /^[\s\u0085]*$/;

/**
 * All documents of all sources, in order. A document's split is decided by a keyed hash of its text (of its first
 * part, where it is long): equal documents fall into the same split, whatever their number and order.
 * @param counts of each source, to which is added what is left out
 */
export async function* readDocuments(
  sources: readonly TextSourceReader[],
  { fraction, seed }: DataRecipe['validation'],
  signal: AbortSignal | undefined,
  counts: readonly IntakeCounts[] = sources.map(noCounts),
): AsyncGenerator<SplitPart> {
  let sinceTurn = 0;
  for (const [source, reader] of sources.entries()) {
    let first = true;
    let split: SplitName = 'train';
    let lot = 0;
    for await (const { name, text, last } of reader.documents(counts[source]!, signal)) {
      signal?.throwIfAborted();
      // Documents of nothing but white space teach nothing.
      if (first && last && BLANK.test(text)) {
        counts[source]!.blankDocuments++;
        continue;
      }
      if (first) {
        const key = randomKey(seed, 'validation', text);
        split = randomUniform(key, 0) < fraction ? 'validation' : 'train';
        lot = randomUniform(key, 1);
      }
      const bytes = Buffer.byteLength(text);
      yield { source, name, text, bytes, first, last, split, lot };
      first = last;
      sinceTurn += bytes;
      if (sinceTurn < BYTES_A_TURN) continue;
      sinceTurn = 0;
      await nextTurn();
    }
  }
}

/** Counts and hashes what was read from one source. */
export class SourceTally {
  readonly #hash: Hash = createHash('sha256');
  readonly counts: IntakeCounts = noCounts();
  documents = 0;
  bytes = 0;

  add({ name, text, bytes, last }: SplitPart): void {
    this.#hash.update(JSON.stringify([name, text, last]));
    this.bytes += bytes;
    if (last) this.documents++;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}
