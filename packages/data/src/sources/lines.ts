import { recordError } from './field.ts';

export interface Line {
  /** Counted from 1, blank ones too. */
  readonly number: number;
  /** Without the newline. */
  readonly bytes: Buffer;
  readonly isLast: boolean;
}

/** Longest line in bytes: a record is held whole, more than once while it is parsed. */
const LONGEST_LINE = 2 ** 28;

/**
 * The lines of a stream of bytes, wherever it is cut.
 * @param path of the file, for messages
 * @throws SluiceError SLUICE_E_DATA_RECORD for a line that is longer than `longest` bytes
 */
export async function* linesOf(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  longest: number = LONGEST_LINE,
): AsyncGenerator<Line> {
  let open: Buffer[] = [];
  let length = 0;
  let number = 1;
  const add = (part: Buffer): void => {
    open.push(part);
    length += part.length;
    if (length > longest) {
      throw recordError(
        `${path}:${number}`,
        `the line is longer than ${longest} bytes; a file of JSON lines holds a record a line`,
      );
    }
  };
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let start = 0;
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, start)) {
      add(bytes.subarray(start, at));
      yield { number, bytes: open.length === 1 ? open[0]! : Buffer.concat(open), isLast: false };
      [open, length] = [[], 0];
      number++;
      start = at + 1;
    }
    if (start < bytes.length) add(bytes.subarray(start));
  }
  if (length > 0) yield { number, bytes: Buffer.concat(open), isLast: true };
}
