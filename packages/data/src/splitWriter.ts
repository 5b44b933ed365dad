import { join } from 'node:path';
import { DocumentIndexWriter } from './documentIndex.ts';
import type { DatasetManifest, SplitManifest, SplitName } from './manifest.ts';
import { StreamWriter } from './streamWriter.ts';

export type TokenType = DatasetManifest['tokenType'];

export const TOKEN_BYTES: Readonly<Record<TokenType, number>> = { uint16: 2, uint32: 4 };

export interface SplitWriterOptions {
  readonly directory: string;
  readonly split: SplitName;
  readonly tokenType: TokenType;
  readonly shardTokens: number;
}

/** Writes the tokens of one split, document after document, into shards of bounded size, with their index. */
export class SplitWriter {
  private readonly options: SplitWriterOptions;
  private readonly documents: DocumentIndexWriter;
  private readonly shards: SplitManifest['shards'] = [];
  private shard: StreamWriter | null = null;
  private shardUsed = 0;
  private bytes = 0;
  tokens = 0;

  constructor(options: SplitWriterOptions) {
    this.options = options;
    const { directory, split } = options;
    this.documents = new DocumentIndexWriter(
      new StreamWriter(join(directory, `${split}.index`)),
      new StreamWriter(join(directory, `${split}.names`)),
    );
  }

  /** Begins a document; the tokens appended from now on are its own. */
  beginDocument(name: string, source: number): void {
    this.documents.add(this.tokens, name, source);
  }

  /** @param textBytes bytes of text, in UTF-8, that the tokens stand for */
  append(tokens: readonly number[], textBytes: number): void {
    const width = TOKEN_BYTES[this.options.tokenType];
    for (let i = 0; i < tokens.length; i++) {
      const { buffer, offset } = this.currentShard().reserve(width);
      if (width === 2) buffer.writeUInt16LE(tokens[i]!, offset);
      else buffer.writeUInt32LE(tokens[i]!, offset);
      this.shardUsed++;
    }
    this.tokens += tokens.length;
    this.bytes += textBytes;
  }

  finish(): SplitManifest {
    this.finishShard();
    return {
      tokens: this.tokens,
      documents: this.documents.documents,
      bytes: this.bytes,
      shards: this.shards,
      index: this.documents.index.finish(),
      names: this.documents.names.finish(),
    };
  }

  /** Closes the files without finishing them. */
  abandon(): void {
    this.shard?.abandon();
    this.documents.index.abandon();
    this.documents.names.abandon();
  }

  private currentShard(): StreamWriter {
    if (this.shard !== null && this.shardUsed < this.options.shardTokens) return this.shard;
    this.finishShard();
    const number = String(this.shards.length).padStart(5, '0');
    this.shard = new StreamWriter(join(this.options.directory, `${this.options.split}-${number}.bin`));
    return this.shard;
  }

  private finishShard(): void {
    if (this.shard === null) return;
    this.shards.push({ ...this.shard.finish(), tokens: this.shardUsed });
    this.shard = null;
    this.shardUsed = 0;
  }
}
