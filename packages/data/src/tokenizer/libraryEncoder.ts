import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { AnyTokenizerJson } from './json.ts';
import { loadLibrary, type NativeTokenizer } from './library.ts';
import { LOST, type Variant, variantOf } from './variants.ts';

/**
 * Characters, encoded between two collections of garbage. The library's results are large and lie outside of V8's memory,
 * which by itself would see no reason to let go of them.
 */
const COLLECT_AFTER = 1 << 21;

function collectGarbage(): void {
  // V8 has this function only when asked for it.
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
}

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
  #encodedSinceCollection = 0;

  constructor(json: AnyTokenizerJson) {
    this.#json = json;
  }

  /**
   * The ids of each text. The variant is read at its first text, which may take seconds.
   * @throws RefusedFile; LostCharacter for the variants of corpora; Error the library's own, when it cannot encode one of the texts
   */
  async encode(variant: Variant, texts: readonly string[]): Promise<number[][]> {
    const { native, fileIds, lostId } = this.#variant(variant);
    const wellFormed = texts.map((text) => text.toWellFormed());
    const encodings = await native.encodeBatch(wellFormed, { addSpecialTokens: false });
    this.#encodedSinceCollection += wellFormed.reduce((sum, { length }) => sum + length, 0);
    if (this.#encodedSinceCollection >= COLLECT_AFTER) {
      this.#encodedSinceCollection = 0;
      setImmediate(collectGarbage);
    }
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
      const native = readByLibrary(json);
      open = { native, fileIds: fileIds(json, native), lostId: native.tokenToId(LOST) };
      this.#open.set(variant, open);
    }
    return open;
  }
}

/**
 * A function that gives the text of tokens, as the library's own `decode` has it, which gives it only later.
 * @throws RefusedFile
 */
export function loadDecoder(json: AnyTokenizerJson): (tokens: string[]) => string {
  // The model, which is most of the file, takes no part in it.
  const model = { type: 'WordLevel', vocab: {}, unk_token: '' };
  const decoder = readByLibrary({ ...json, added_tokens: [], model }).getDecoder();
  return (tokens) => decoder?.decode(tokens) ?? tokens.join(' ');
}

function readByLibrary(json: AnyTokenizerJson): NativeTokenizer {
  const { Tokenizer } = loadLibrary();
  try {
    return Tokenizer.fromString(JSON.stringify(json));
  } catch (error) {
    throw new RefusedFile((error as Error).message, { cause: error });
  }
}

function fileIds({ added_tokens: added }: AnyTokenizerJson, native: NativeTokenizer): Map<number, number> {
  const pairs = added.map(({ content, id }) => [native.tokenToId(content)!, id] as const);
  return new Map(pairs.filter(([libraryId, id]) => libraryId !== id));
}

/** The library does not take the file. */
export class RefusedFile extends Error {}

/** A part of a text that the tokenizer has no token for. */
export class LostCharacter extends Error {
  /** Begin and end in the text, in code points. */
  readonly place: readonly number[];

  constructor(place: readonly number[]) {
    super('its vocabulary lacks it, and has no token for what is unknown');
    this.place = place;
  }
}
