import type { TextOptions } from '../recipe.ts';
import { unpackedBytes } from './bytes.ts';
import { textChunks } from './decode.ts';
import type { FolderListing } from './files.ts';
import type { DocumentPart, TextSourceReader } from './source.ts';

/** A longer document is handed on in parts, cut at white space. In characters. */
const PART_LENGTH = 1 << 20;
/** A separator is looked for only where at least so much text follows, so that it is seen whole. */
const SEPARATOR_LENGTH = 1000;

/** Text files: each a document, or several with a separator between them. */
export function textSource(label: string, listing: FolderListing, options: TextOptions): TextSourceReader {
  const remove = options.remove.map((pattern) => new RegExp(pattern, 'gu'));
  const clean = (text: string): string => remove.reduce((rest, pattern) => rest.replace(pattern, ''), text);
  return {
    label,
    ...listing,
    async *documents(counts) {
      for (const { path, name } of listing.files) {
        const chunks = textChunks(path, unpackedBytes(path), options, counts);
        for await (const part of documentsInText(chunks, name, options.documentSeparator)) {
          yield { ...part, text: clean(part.text) };
        }
      }
    },
  };
}

/**
 * Cuts a stream of text into documents at matches of a regular expression, and long documents into parts. Where it cuts does
 * not depend on where the stream is cut.
 */
async function* documentsInText(
  chunks: AsyncIterable<string>,
  name: string,
  separator: string | undefined,
): AsyncGenerator<DocumentPart> {
  const pattern = separator === undefined ? null : new RegExp(separator, 'gu');
  let rest = '';
  let number = 1;
  const nameOf = (): string => (pattern === null ? name : `${name}#${number}`);
  /** Takes what is certain out of `rest`; at the end of the file, everything is. */
  function* take(atEnd: boolean): Generator<DocumentPart> {
    let start = 0;
    // No document that is still open ends before this.
    let certain = atEnd ? rest.length : rest.length - SEPARATOR_LENGTH;
    if (pattern !== null) {
      pattern.lastIndex = 0;
      for (let match = pattern.exec(rest); match !== null; match = pattern.exec(rest)) {
        const end = match.index + match[0].length;
        if (!atEnd && end + SEPARATOR_LENGTH > rest.length) {
          certain = Math.min(certain, match.index);
          break;
        }
        if (match[0].length === 0) pattern.lastIndex++;
        if (match.index === 0 && end === 0) continue;
        const open = yield* longParts(nameOf(), rest.slice(start, match.index));
        yield { name: nameOf(), text: open, last: true };
        start = end;
        number++;
      }
    }
    rest = yield* longParts(nameOf(), rest.slice(start), certain - start);
    if (atEnd) yield { name: nameOf(), text: rest, last: true };
  }
  for await (const chunk of chunks) {
    rest += chunk;
    yield* take(false);
  }
  yield* take(true);
}

/**
 * Cuts parts off as long as more than one is there.
 * @param length how much of the text is known to be of this document
 * @returns what is left
 */
function* longParts(name: string, text: string, length = text.length): Generator<DocumentPart, string> {
  let begin = 0;
  while (length - begin > PART_LENGTH) {
    const end = begin + whiteSpaceBefore(text.slice(begin, begin + PART_LENGTH + 1), PART_LENGTH);
    yield { name, text: text.slice(begin, end), last: false };
    begin = end;
  }
  return text.slice(begin);
}

/** White space as Unicode has it, which U+FEFF is not and U+0085 is. */
const WHITE_SPACE = /\p{White_Space}/u;

/** The last white space at or before `limit`, or `limit` (moved off the middle of a character) when there is none. */
function whiteSpaceBefore(text: string, limit: number): number {
  for (let at = limit; at > limit / 2; at--) {
    if (WHITE_SPACE.test(text[at]!) && !WHITE_SPACE.test(text[at - 1]!)) return at;
  }
  const code = text.charCodeAt(limit);
  return code >= 0xdc00 && code < 0xe000 ? limit - 1 : limit;
}
