import type { AnyTokenizerJson } from './json.ts';
import { loadLibrary, type NativeTokenizer } from './library.ts';
import { LOST, type Variant, variantOf } from './variants.ts';

/** One variant of a tokenizer in the library. */
interface OpenVariant {
  readonly native: NativeTokenizer;
  /** The file's id of each added token that the library numbers otherwise. */
  readonly fileIds: ReadonlyMap<number, number>;
  readonly lostId: number | null;
}

/** Encodes texts by Hugging Face's library, on its own threads. */
export class LibraryEncoder {
  readonly #json: AnyTokenizerJson;
  readonly #open = new Map<Variant, OpenVariant>();

  /** @throws Error the library's own, for a file that it refuses */
  constructor(json: AnyTokenizerJson) {
    this.#json = json;
    this.#variant('full');
  }

  /** The text of the tokens, as the library's own `decode` has it, which gives it only later. */
  join(tokens: string[]): string {
    return this.#variant('full').native.getDecoder()?.decode(tokens) ?? tokens.join(' ');
  }

  /**
   * The ids of each text.
   * @throws Error the library's own, when it cannot encode one of them; LostCharacter for variant `corpus`
   */
  async encode(variant: Variant, texts: readonly string[]): Promise<number[][]> {
    const { native, fileIds, lostId } = this.#variant(variant);
    const wellFormed = texts.map((text) => text.toWellFormed());
    const encodings = await native.encodeBatch(wellFormed, { addSpecialTokens: false });
    return encodings.map((encoding) => {
      const ids = encoding.getIds();
      const lost = lostId === null ? -1 : ids.indexOf(lostId);
      if (lost >= 0) throw new LostCharacter(encoding.getOffsets()[lost]!);
      return fileIds.size === 0 ? ids : ids.map((id) => fileIds.get(id) ?? id);
    });
  }

  #variant(variant: Variant): OpenVariant {
    let open = this.#open.get(variant);
    if (open === undefined) {
      const json = variantOf(this.#json, variant);
      const native = loadLibrary().Tokenizer.fromString(JSON.stringify(json));
      open = { native, fileIds: fileIds(json, native), lostId: native.tokenToId(LOST) };
      this.#open.set(variant, open);
    }
    return open;
  }
}

function fileIds({ added_tokens: added }: AnyTokenizerJson, native: NativeTokenizer): Map<number, number> {
  const pairs = added.map(({ content, id }) => [native.tokenToId(content)!, id] as const);
  return new Map(pairs.filter(([libraryId, id]) => libraryId !== id));
}

/** A part of a text that the tokenizer has no token for. */
export class LostCharacter extends Error {
  /** Begin and end in the text, in code points. */
  readonly place: readonly number[];

  constructor(place: readonly number[]) {
    super('its vocabulary lacks it, and has no token for what is unknown');
    this.place = place;
  }
}
