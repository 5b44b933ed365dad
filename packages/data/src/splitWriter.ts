import { join } from 'node:path';
import { DocumentIndexWriter } from './documentIndex.ts';
import type { DatasetManifest, SplitManifest, SplitName } from './manifest.ts';
import { StreamWriter } from './streamWriter.ts';

export type TokenType = DatasetManifest['tokenType'];

export const TOKEN_BYTES: Readonly<Record<TokenType, number>> = { uint16: 2, uint32: 4 };

/** Tokens written at once; they fit into the buffer of the file. */
const TOKENS_A_WRITE = 1 << 12;

export interface SplitWriterOptions {
  readonly directory: string;
  readonly split: SplitName;
  readonly tokenType: TokenType;
  readonly shardTokens: number;
}

/** Writes the tokens of one split, document after document, into shards of bounded size, with their index. */
export class SplitWriter {
  readonly #options: SplitWriterOptions;
  readonly #documents: DocumentIndexWriter;
  readonly #shards: SplitManifest['shards'] = [];
  #shard: StreamWriter | null = null;
  #shardUsed = 0;
  #bytes = 0;
  tokens = 0;

  constructor(options: SplitWriterOptions) {
    this.#options = options;
    const { directory, split } = options;
    this.#documents = new DocumentIndexWriter(
      new StreamWriter(join(directory, `${split}.index`)),
      new StreamWriter(join(directory, `${split}.names`)),
    );
  }

  /** Begins a document; the tokens appended from now on are its own. */
  beginDocument(name: string, source: number): void {
    this.#documents.add(this.tokens, name, source);
  }

  /** @param textBytes bytes of text, in UTF-8, that the tokens stand for */
  append(tokens: readonly number[], textBytes: number): void {
    const width = TOKEN_BYTES[this.#options.tokenType];
    for (let start = 0; start < tokens.length; ) {
      const shard = this.#currentShard();
      const count = Math.min(
        tokens.length - start,
        this.#options.shardTokens - this.#shardUsed,
        TOKENS_A_WRITE,
      );
      const { buffer, offset } = shard.reserve(count * width);
      for (let i = 0; i < count; i++) {
        if (width === 2) buffer.writeUInt16LE(tokens[start + i]!, offset + 2 * i);
        else buffer.writeUInt32LE(tokens[start + i]!, offset + 4 * i);
      }
      this.#shardUsed += count;
      start += count;
    }
    this.tokens += tokens.length;
    this.#bytes += textBytes;
  }

  finish(): SplitManifest {
    this.#finishShard();
    return {
      tokens: this.tokens,
      documents: this.#documents.documents,
      bytes: this.#bytes,
      shards: this.#shards,
      index: this.#documents.index.finish(),
      names: this.#documents.names.finish(),
    };
  }

  /** Closes the files without finishing them. */
  abandon(): void {
    this.#shard?.abandon();
    this.#documents.index.abandon();
    this.#documents.names.abandon();
  }

  #currentShard(): StreamWriter {
    if (this.#shard !== null && this.#shardUsed < this.#options.shardTokens) return this.#shard;
    this.#finishShard();
    const number = String(this.#shards.length).padStart(5, '0');
    this.#shard = new StreamWriter(join(this.#options.directory, `${this.#options.split}-${number}.bin`));
    return this.#shard;
  }

  #finishShard(): void {
    if (this.#shard === null) return;
    this.#shards.push({ ...this.#shard.finish(), tokens: this.#shardUsed });
    this.#shard = null;
    this.#shardUsed = 0;
  }
}
