import { join } from 'node:path';
import { invariant } from '@sluice/core';
import { type DocumentEntry, DocumentIndex } from './documentIndex.ts';
import type { DatasetManifest, SplitName } from './manifest.ts';
import { PositionalReader } from './positionalReader.ts';
import { TOKEN_BYTES } from './splitWriter.ts';

/** Shard files that are kept open; the one that was not used for longest is closed first. */
const OPEN_SHARDS = 64;

/** A stretch of tokens of one shard. */
export interface ShardRange {
  readonly file: string;
  /** Places of the tokens in the shard. */
  readonly start: number;
  readonly end: number;
}

/** The tokens of one split, addressed from its beginning, wherever the shards are cut. */
export class SplitReader {
  readonly split: SplitName;
  readonly tokens: number;
  readonly #directory: string;
  readonly #manifest: DatasetManifest;
  readonly #onOpen: () => void;
  readonly #openShards = new Map<string, PositionalReader>();
  readonly #indexFiles: readonly PositionalReader[];
  readonly #documents: DocumentIndex;

  /** @param onOpen called after a file was opened, to see whether it is still one of the corpus */
  constructor(directory: string, manifest: DatasetManifest, split: SplitName, onOpen: () => void) {
    const { tokens, index, names } = manifest.splits[split];
    this.#directory = directory;
    this.#manifest = manifest;
    this.#onOpen = onOpen;
    this.split = split;
    this.tokens = tokens;
    this.#indexFiles = [index, names].map(({ file }) => this.#fileReader(file));
    this.#documents = this.documentIndex(0);
  }

  /** @param added tokens that are thought to stand before each document */
  documentIndex(added: number): DocumentIndex {
    const { tokens, documents } = this.#manifest.splits[this.split];
    return new DocumentIndex(this.#indexFiles[0]!, this.#indexFiles[1]!, { tokens, documents, added });
  }

  /** Fills `target` with the tokens that begin at `start`. */
  read(start: number, target: Int32Array): void {
    let filled = 0;
    for (const range of this.ranges(start, start + target.length)) {
      filled += this.#readShard(range, target, filled);
    }
  }

  /** The shards that hold the tokens [start, end). */
  ranges(start: number, end: number): ShardRange[] {
    invariant(start >= 0 && end <= this.tokens, `tokens ${start} to ${end} of ${this.tokens}`);
    const { shardTokens, splits } = this.#manifest;
    const ranges: ShardRange[] = [];
    for (let at = start; at < end; ) {
      const number = Math.floor(at / shardTokens);
      const shardStart = number * shardTokens;
      const stop = Math.min(end, shardStart + shardTokens);
      const { file } = splits[this.split].shards[number]!;
      ranges.push({ file, start: at - shardStart, end: stop - shardStart });
      at = stop;
    }
    return ranges;
  }

  /** The documents that hold the tokens [start, end). */
  documentsOf(start: number, end: number): DocumentEntry[] {
    return [...this.#documents.overlapping(start, end)];
  }

  sourceLabel(source: number): string {
    return this.#manifest.sources[source]!.label;
  }

  close(): void {
    for (const reader of [...this.#openShards.values(), ...this.#indexFiles]) reader.close();
    this.#openShards.clear();
  }

  #readShard({ file, start, end }: ShardRange, target: Int32Array, offset: number): number {
    const width = TOKEN_BYTES[this.#manifest.tokenType];
    const count = end - start;
    const bytes = this.#shard(file).read(start * width, count * width);
    if (width === 2)
      for (let i = 0; i < count; i++) target[offset + i] = bytes[2 * i]! | (bytes[2 * i + 1]! << 8);
    else for (let i = 0; i < count; i++) target[offset + i] = bytes.readUInt32LE(4 * i);
    return count;
  }

  #fileReader(file: string): PositionalReader {
    return new PositionalReader(join(this.#directory, file), this.#onOpen);
  }

  #shard(file: string): PositionalReader {
    const reader = this.#openShards.get(file) ?? this.#fileReader(file);
    // A map keeps the order of insertion, so that the first key is the one that was not used for longest.
    this.#openShards.delete(file);
    this.#openShards.set(file, reader);
    if (this.#openShards.size > OPEN_SHARDS) {
      const [oldest, stale] = this.#openShards.entries().next().value!;
      stale.close();
      this.#openShards.delete(oldest);
    }
    return reader;
  }
}
