import { SluiceError } from '@sluice/core';
import { invalidTokenizer } from './invalid.ts';
import type { AnyTokenizerJson } from './json.ts';
import { LibraryEncoder, LostCharacter, loadDecoder, RefusedFile } from './libraryEncoder.ts';
import { SyncEncoder } from './syncEncoder.ts';
import { type CorpusText, type Tokenizer, unusedToken } from './tokenizer.ts';
import type { TokenTable } from './tokenTable.ts';
import { continuationVariant, type Variant } from './variants.ts';

export interface LibraryTokenizerOptions {
  /** Where the tokenizer comes from, for messages. */
  readonly file: string;
  readonly json: AnyTokenizerJson;
  readonly table: TokenTable;
  /** One of its tokens. */
  readonly endOfText: string;
  readonly notes: readonly string[];
}

/** Any `tokenizer.json`, by Hugging Face's own library. */
export class LibraryTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endOfTextId: number;
  readonly notes: readonly string[];
  readonly #file: string;
  readonly #tokenOfId: ReadonlyMap<number, string>;
  readonly #encoder: LibraryEncoder;
  readonly #continuation: Variant;
  readonly #sync: SyncEncoder;
  readonly #join: (tokens: string[]) => string;

  /** @throws RefusedFile, as far as that shows without reading the model; SluiceError SLUICE_E_TOKENIZER_LIBRARY */
  constructor({ file, json, table, endOfText, notes }: LibraryTokenizerOptions) {
    this.#file = file;
    this.#encoder = new LibraryEncoder(json);
    this.#continuation = continuationVariant(json);
    this.#sync = new SyncEncoder(json);
    this.#join = loadDecoder(json);
    this.#tokenOfId = table.tokenOfId;
    this.vocabularySize = table.size;
    this.endOfTextId = table.idOfToken.get(endOfText)!;
    this.notes = notes;
  }

  encode(text: string): number[] {
    return this.#encodeNow('full', text);
  }

  encodeOrdinary(text: string): number[] {
    return this.#encodeNow('ordinary', text);
  }

  async encodeCorpus(texts: readonly CorpusText[]): Promise<number[][]> {
    try {
      return await this.#encodeParts(texts);
    } catch (error) {
      if (error instanceof RefusedFile) throw invalidTokenizer(this.#file, error);
      const [only, ...more] = texts;
      if (only !== undefined && more.length === 0)
        throw this.#cannotEncode(only.text, error as Error, only.name);
      // The library does not say which text it was.
      for (const text of texts) await this.encodeCorpus([text]);
      throw error;
    }
  }

  async #encodeParts(texts: readonly CorpusText[]): Promise<number[][]> {
    const encode = async (variant: Variant, isFirst: boolean) => {
      const chosen = texts.filter(({ first = true }) => first === isFirst);
      return chosen.length === 0
        ? []
        : this.#encoder.encode(
            variant,
            chosen.map(({ text }) => text),
          );
    };
    const [begun, continued] = [await encode('corpus', true), await encode(this.#continuation, false)];
    return texts.map(({ first = true }) => (first ? begun : continued).shift()!);
  }

  decode(ids: ArrayLike<number>): string {
    const parts: string[] = [];
    let tokens: string[] = [];
    const joinTokens = (): void => {
      if (tokens.length > 0) parts.push(this.#join(tokens));
      tokens = [];
    };
    for (let i = 0; i < ids.length; i++) {
      const token = this.#tokenOfId.get(ids[i]!);
      if (token !== undefined) tokens.push(token);
      else {
        joinTokens();
        parts.push(unusedToken(ids[i]!));
      }
    }
    joinTokens();
    return parts.join('');
  }

  #encodeNow(variant: Variant, text: string): number[] {
    try {
      return this.#sync.encode(variant, text);
    } catch (error) {
      if (error instanceof RefusedFile) throw invalidTokenizer(this.#file, error);
      if (error instanceof SluiceError) throw error;
      throw this.#cannotEncode(text, error as Error);
    }
  }

  #cannotEncode(text: string, error: Error, name?: string): SluiceError {
    const part =
      error instanceof LostCharacter ? [...text].slice(...error.place).join('') : text.slice(0, 60);
    const where = name === undefined ? '' : ` in ${name}`;
    return new SluiceError(
      'SLUICE_E_TOKENIZER_TEXT',
      `The tokenizer ${this.#file} has no ids for ${JSON.stringify(part)}${where}: ${error.message}.`,
      { details: { tokenizer: this.#file, text: part, document: name }, cause: error },
    );
  }
}
