import type { TextOptions } from '../recipe.ts';
import { unpackedBytes } from './bytes.ts';
import { textChunks } from './decode.ts';
import { recordError } from './field.ts';
import type { FolderListing } from './files.ts';
import { Pattern } from './pattern.ts';
import type { DocumentPart, SourceFile, TextSourceReader } from './source.ts';

/** A longer document is handed on in parts, cut between words. In characters. */
const PART_LENGTH = 1 << 20;
/** A separator is looked for only where at least so much text follows, so that it is seen whole, and sees so much before it. */
const SEPARATOR_LENGTH = 1000;
/** A document is held whole where something is to be removed from it. In characters. */
const LONGEST_CLEANED = 2 ** 28;

/** Text files: each a document, or several with a separator between them. */
export function textSource(label: string, listing: FolderListing, options: TextOptions): TextSourceReader {
  return {
    label,
    ...listing,
    async *documents(counts) {
      for (const { path, name } of listing.files) {
        const chunks = textChunks(path, unpackedBytes(path), options, counts);
        yield* documentsInText(chunks, { path, name }, options);
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
  { path, name }: Pick<SourceFile, 'path' | 'name'>,
  { documentSeparator, remove }: TextOptions,
): AsyncGenerator<DocumentPart> {
  const separator =
    documentSeparator === undefined ? null : new Pattern(documentSeparator, 'documentSeparator');
  const removed = remove.map((pattern, i) => new Pattern(pattern, `remove[${i}]`));
  /** What is not given yet, behind what separators may look back at. */
  let text = '';
  /** Where in it the open document goes on, and up to where separators were looked for. */
  let [begin, searched] = [0, 0];
  let number = 1;
  const nameOf = (): string => (separator === null ? name : `${name}#${number}`);
  function* close(end: number): Generator<DocumentPart> {
    const place = separator === null ? path : `${path}, document ${number}`;
    const whole = removed.reduce((rest, pattern) => pattern.removedFrom(rest, place), text.slice(begin, end));
    const open = yield* longParts(nameOf(), whole);
    yield { name: nameOf(), text: open, last: true };
  }
  /** Takes what is certain out of `text`; at the end of the file, everything is. */
  function* take(atEnd: boolean): Generator<DocumentPart> {
    let certain = atEnd ? text.length : Math.max(searched, text.length - SEPARATOR_LENGTH);
    if (separator !== null) {
      const place = `${path}, from document ${number} on`;
      for (const match of separator.matches(text, searched, place)) {
        const end = match.index + match[0].length;
        if (!atEnd && end + SEPARATOR_LENGTH > text.length) {
          certain = Math.min(certain, match.index);
          break;
        }
        // Nothing, where a document begins, separates nothing.
        if (end === begin) continue;
        yield* close(match.index);
        begin = end;
        number++;
      }
    }
    if (atEnd) yield* close(text.length);
    else if (removed.length === 0) {
      const open = yield* longParts(nameOf(), text.slice(begin), certain - begin);
      begin = text.length - open.length;
    } else if (text.length - begin > LONGEST_CLEANED) {
      throw recordError(
        path,
        `${nameOf()} is longer than ${LONGEST_CLEANED} characters, and \`remove\` has to see a document whole; cut the file by documentSeparator`,
      );
    }
    searched = Math.max(begin, certain);
    const gone = Math.max(0, begin - SEPARATOR_LENGTH);
    text = text.slice(gone);
    begin -= gone;
    searched -= gone;
  }
  for await (const chunk of chunks) {
    text += chunk;
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
    const end = begin + placeToCut(text.slice(begin, begin + PART_LENGTH + 1), PART_LENGTH);
    yield { name, text: text.slice(begin, end), last: false };
    begin = end;
  }
  return text.slice(begin);
}

/** White space as Unicode has it, which U+FEFF is not and U+0085 is. */
const WHITE_SPACE = /\p{White_Space}/u;
const LETTER_OR_DIGIT = /[\p{L}\p{N}]/u;

/**
 * Where to cut at or before `limit`, so that the parts have the tokens of the whole: before a space that follows a letter or a
 * digit, where words begin for all tokenizers (line breaks may belong to the punctuation before them). Where there is none, before
 * other white space, or at `limit`, moved off the middle of a character.
 */
function placeToCut(text: string, limit: number): number {
  const places: ((at: number) => boolean)[] = [
    (at) => text[at] === ' ' && LETTER_OR_DIGIT.test(text[at - 1]!),
    (at) => WHITE_SPACE.test(text[at]!) && !WHITE_SPACE.test(text[at - 1]!),
  ];
  for (const isPlace of places) {
    for (let at = limit; at > limit / 2; at--) if (isPlace(at)) return at;
  }
  const code = text.charCodeAt(limit);
  return code >= 0xdc00 && code < 0xe000 ? limit - 1 : limit;
}
