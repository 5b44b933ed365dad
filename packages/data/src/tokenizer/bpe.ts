/**
 * The merges of byte pair encoding, word by word. The pair of lowest rank merges first, the leftmost of equals, as in
 * Hugging Face's `BPE` model. Words repeat, so that a cache in front answers nearly all of them.
 */

import { Heap } from './heap.ts';

export interface MergeTable {
  /** Number of token ids; pairs are keyed by `left * size + right`. */
  readonly size: number;
  /** Rank of a pair of ids: its place in the list of merges. */
  readonly ranks: ReadonlyMap<number, number>;
  /** Id of the token that the merge of each rank makes. */
  readonly results: Int32Array;
  /** Id of the token of each single byte. */
  readonly byteIds: Int32Array;
  /** Ids of whole words that are taken without merging (`ignore_merges`), or null. */
  readonly wholeWords: ReadonlyMap<string, number> | null;
}

/** Entries of the cache; it is emptied when full, which keeps memory bounded and costs little on natural text. */
const CACHE_ENTRIES = 1 << 17;
/** Longer words are rare and seldom come again. */
const CACHED_LENGTH = 48;
/** Positions in a word are keyed together with ranks in one number, exact up to 2^53. */
const POSITION_LIMIT = 2 ** 32;

export class BpeEncoder {
  readonly #table: MergeTable;
  readonly #cache = new Map<string, readonly number[]>();

  constructor(table: MergeTable) {
    this.#table = table;
  }

  /** Appends the ids of a word to `ids`. */
  encodeWord(word: string, ids: number[]): void {
    let tokens = this.#cache.get(word);
    if (tokens === undefined) {
      tokens = this.#mergeWord(word);
      if (word.length <= CACHED_LENGTH) {
        if (this.#cache.size >= CACHE_ENTRIES) this.#cache.clear();
        this.#cache.set(word, tokens);
      }
    }
    for (let i = 0; i < tokens.length; i++) ids.push(tokens[i]!);
  }

  #mergeWord(word: string): readonly number[] {
    const { byteIds, wholeWords } = this.#table;
    const whole = wholeWords?.get(word);
    if (whole !== undefined) return [whole];
    const bytes = Buffer.from(word);
    const symbols = Int32Array.from(bytes, (byte) => byteIds[byte]!);
    return this.#mergeSymbols(symbols);
  }

  /** Symbols form a linked list; a heap holds the merges that are possible, by rank and position. */
  #mergeSymbols(symbols: Int32Array): number[] {
    const { size, ranks, results } = this.#table;
    const count = symbols.length;
    const next = Int32Array.from(symbols, (_, i) => i + 1);
    const previous = Int32Array.from(symbols, (_, i) => i - 1);
    const possible = new Heap<number>((a, b) => a < b);
    const rankAt = (at: number): number | undefined =>
      next[at]! < count ? ranks.get(symbols[at]! * size + symbols[next[at]!]!) : undefined;
    const consider = (at: number): void => {
      const rank = rankAt(at);
      if (rank !== undefined) possible.push(rank * POSITION_LIMIT + at);
    };
    for (let at = 0; at + 1 < count; at++) consider(at);
    for (let item = possible.pop(); item !== undefined; item = possible.pop()) {
      const rank = Math.floor(item / POSITION_LIMIT);
      const at = item % POSITION_LIMIT;
      // The entry is stale when either symbol was merged since.
      if (symbols[at]! < 0 || rankAt(at) !== rank) continue;
      const right = next[at]!;
      symbols[at] = results[rank]!;
      symbols[right] = -1;
      next[at] = next[right]!;
      if (next[at]! < count) previous[next[at]!] = at;
      consider(at);
      if (previous[at]! >= 0) consider(previous[at]!);
    }
    return Array.from(symbols.filter((symbol) => symbol >= 0));
  }
}
