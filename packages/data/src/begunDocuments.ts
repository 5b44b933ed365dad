import type { DocumentEntry, DocumentIndex } from './documentIndex.ts';
import type { ShardRange, SplitReader } from './splitReader.ts';

/** Tokens in a row, as a sampler cuts them into sequences. */
export type TokenStream = Pick<SplitReader, 'tokens' | 'read' | 'ranges' | 'documentsOf'>;

/** The tokens of a split with a beginning-of-text token before each document. The files do not hold it. */
export class BegunDocuments implements TokenStream {
  readonly tokens: number;
  readonly #reader: SplitReader;
  readonly #index: DocumentIndex;
  readonly #beginning: number;

  /** @param beginning the token's id */
  constructor(reader: SplitReader, beginning: number) {
    this.#reader = reader;
    this.#index = reader.documentIndex(1);
    this.#beginning = beginning;
    this.tokens = this.#index.tokens;
  }

  /** Fills `target` with the tokens that begin at `start`. */
  read(start: number, target: Int32Array): void {
    const end = start + target.length;
    for (const document of this.#index.ranges(start, end)) {
      if (document.start >= start) target[document.start - start] = this.#beginning;
      const from = Math.max(start, document.start + 1);
      const to = Math.min(end, document.end);
      // The document's own beginning token is the last of those that the files lack before `from`.
      if (from < to) this.#reader.read(from - document.index - 1, target.subarray(from - start, to - start));
    }
  }

  /** The shards that hold the tokens [start, end), as far as files hold them. */
  ranges(start: number, end: number): ShardRange[] {
    return this.#reader.ranges(this.#heldBefore(start), this.#heldBefore(end));
  }

  /** The documents that hold the tokens [start, end), in order. */
  documentsOf(start: number, end: number): DocumentEntry[] {
    return [...this.#index.overlapping(start, end)];
  }

  /** How many of the tokens before `place` the files hold. */
  #heldBefore(place: number): number {
    if (place === this.tokens) return this.#reader.tokens;
    const [document] = this.#index.ranges(place, place + 1);
    return place - document!.index - (place > document!.start ? 1 : 0);
  }
}
