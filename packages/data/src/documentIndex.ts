/**
 * The index of a split's documents: a record of fixed size for each, so that any one is found by reading a few records
 * and never the whole. Little-endian: first token (u64), place of the name (u64), length of the name (u32), source (u32).
 */

import { invariant } from '@sluice/core';
import type { PositionalReader } from './positionalReader.ts';
import type { StreamWriter } from './streamWriter.ts';

const RECORD_BYTES = 24;

export interface DocumentEntry {
  /** Number of the document in its split. */
  readonly index: number;
  /** Place of the source in the manifest's list. */
  readonly source: number;
  readonly name: string;
  /** Range of its tokens in the split, the end-of-text token included. */
  readonly start: number;
  readonly end: number;
}

export class DocumentIndexWriter {
  readonly index: StreamWriter;
  readonly names: StreamWriter;
  documents = 0;

  constructor(index: StreamWriter, names: StreamWriter) {
    this.index = index;
    this.names = names;
  }

  /** Notes that a document begins at a token of the split. */
  add(start: number, name: string, source: number): void {
    const bytes = Buffer.from(name);
    const { buffer, offset } = this.index.reserve(RECORD_BYTES);
    buffer.writeBigUInt64LE(BigInt(start), offset);
    buffer.writeBigUInt64LE(BigInt(this.names.length), offset + 8);
    buffer.writeUInt32LE(bytes.length, offset + 16);
    buffer.writeUInt32LE(source, offset + 20);
    this.names.write(bytes);
    this.documents++;
  }
}

/** Options of an index. */
export interface DocumentIndexOptions {
  /** Number of records in the index. */
  readonly documents: number;
  /** Tokens of the whole split. */
  readonly tokens: number;
  /** Tokens that are thought to stand before each document, and are counted as its own; the files do not hold them. */
  readonly added?: number;
}

export class DocumentIndex {
  /** Tokens of the whole split, the added ones included. */
  readonly tokens: number;
  readonly #index: PositionalReader;
  readonly #names: PositionalReader;
  readonly #documents: number;
  readonly #added: number;

  constructor(index: PositionalReader, names: PositionalReader, options: DocumentIndexOptions) {
    const { documents, tokens, added = 0 } = options;
    this.#index = index;
    this.#names = names;
    this.#documents = documents;
    this.#added = added;
    this.tokens = tokens + added * documents;
  }

  /** The documents that hold the tokens [start, end) of the split, in order. */
  *overlapping(start: number, end: number): Generator<DocumentEntry> {
    for (let i = this.#find(start); i < this.#documents; i++) {
      const entry = this.#entry(i);
      if (entry.start >= end) return;
      yield entry;
    }
  }

  /** The ranges of the documents that hold the tokens [start, end) of the split, in order. */
  *ranges(start: number, end: number): Generator<Pick<DocumentEntry, 'index' | 'start' | 'end'>> {
    let index = this.#find(start);
    for (let from = this.#startOf(index); from < end; index++) {
      const to = this.#startOf(index + 1);
      yield { index, start: from, end: to };
      from = to;
    }
  }

  /** The document that holds a token, by bisection. */
  #find(token: number): number {
    invariant(token >= 0 && token < this.tokens, `token ${token} of ${this.tokens}`);
    let low = 0;
    let high = this.#documents;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#startOf(middle) <= token) low = middle;
      else high = middle;
    }
    return low;
  }

  #startOf(index: number): number {
    if (index === this.#documents) return this.tokens;
    return this.#place(index, this.#index.read(index * RECORD_BYTES, 8));
  }

  #entry(index: number): DocumentEntry {
    const record = this.#index.read(index * RECORD_BYTES, RECORD_BYTES);
    const start = this.#place(index, record);
    const nameAt = Number(record.readBigUInt64LE(8));
    const nameLength = record.readUInt32LE(16);
    const source = record.readUInt32LE(20);
    const name = this.#names.read(nameAt, nameLength).toString('utf8');
    return { index, source, name, start, end: this.#startOf(index + 1) };
  }

  /** Where a document begins, with what is added before it and before all earlier ones. */
  #place(index: number, record: Buffer): number {
    return Number(record.readBigUInt64LE(0)) + index * this.#added;
  }
}
