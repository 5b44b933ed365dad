/** JSON lines: a file of one JSON object a line, each a document. */

import type { RecordOptions } from '../recipe.ts';
import { unpackedBytes } from './bytes.ts';
import { decodeUtf8, encodingError, refuseOtherUnicode, withoutLoneSurrogates } from './decode.ts';
import { recordError, textOf } from './field.ts';
import type { FolderListing } from './files.ts';
import { type Line, linesOf } from './lines.ts';
import type { DocumentPart, IntakeCounts, SourceFile, TextSourceReader } from './source.ts';

/** @param field that holds the text; a.b for a field in a field */
export function jsonlSource(
  label: string,
  listing: FolderListing,
  field: string,
  options: RecordOptions,
): TextSourceReader {
  return {
    label,
    ...listing,
    async *documents(counts, signal) {
      for (const file of listing.files) {
        yield* documentsInLines(file, unpackedBytes(file.path), field, options, counts, signal);
      }
    },
  };
}

/** The documents of one file's bytes, wherever they are cut. */
export async function* documentsInLines(
  { path, name }: Pick<SourceFile, 'path' | 'name'>,
  bytes: AsyncIterable<Uint8Array>,
  field: string,
  options: RecordOptions,
  counts: IntakeCounts,
  signal?: AbortSignal,
): AsyncGenerator<DocumentPart> {
  for await (const line of linesOf(path, bytes)) {
    signal?.throwIfAborted();
    const place = `${path}:${line.number}`;
    if (line.number === 1) refuseOtherUnicode(path, line.bytes, 'utf-8');
    let json = decodeUtf8(line.bytes, options.invalidBytes, counts);
    if (json === null) throw encodingError(place, 'is not utf-8');
    if (line.number === 1 && json.startsWith('\ufeff')) json = json.slice(1);
    if (/^[ \t\r]*$/.test(json)) continue;
    const text = textOf(parse(json, line, place), field, place, options, counts);
    if (text !== null) {
      yield { name: `${name}:${line.number}`, text: withoutLoneSurrogates(text, counts), last: true };
    }
  }
}

function parse(json: string, line: Line, place: string): unknown {
  try {
    const record: unknown = JSON.parse(json);
    if (!Array.isArray(record)) return record;
  } catch (error) {
    throw recordError(place, explain(json, line) ?? (error as Error).message, error);
  }
  throw recordError(place, ARRAY);
}

const ARRAY =
  "this is a JSON array, and no JSON object on a line of its own (jq -c '.[]' makes JSON lines of an array)";

/** What is wrong with a line that is no JSON, where its form tells. */
function explain(json: string, { isLast }: Line): string | null {
  if (json.trimStart().startsWith('[')) return ARRAY;
  if (json.includes('\0')) return 'the line holds NUL bytes, as a crash leaves them';
  const { depth, inText, after } = outline(json);
  if (after !== '') {
    return `after the first JSON value, ${JSON.stringify(after.slice(0, 20))} follows on the same line (jq -c . puts each on its own)`;
  }
  if (inText || depth > 0) {
    return isLast
      ? 'the last line is cut off'
      : 'the JSON object goes on over the end of the line (jq -c . puts each on a line of its own)';
  }
  return null;
}

/** How far a line comes: open brackets at its end, whether a text is open, and what follows the first whole value. */
function outline(json: string): { depth: number; inText: boolean; after: string } {
  let depth = 0;
  let inText = false;
  for (let at = 0; at < json.length; at++) {
    const character = json[at]!;
    if (inText) {
      if (character === '\\') at++;
      else if (character === '"') inText = false;
    } else if (character === '"') {
      inText = true;
    } else if (character === '{' || character === '[') {
      depth++;
    } else if ((character === '}' || character === ']') && --depth === 0) {
      return { depth, inText, after: json.slice(at + 1).trim() };
    }
  }
  return { depth, inText, after: '' };
}
