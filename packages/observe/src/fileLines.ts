/** The lines of logs. */

import type { ReadStream } from 'node:fs';
import { unreadable } from '@sluice/core';

const NEWLINE = 0x0a;

export interface FileLine {
  /** Without its newline. */
  readonly text: string;
  /** Whether a newline ends it; only the last line may lack one. */
  readonly isWhole: boolean;
}

/**
 * Lines end with a newline and with nothing else. Node's `readline` ends them at U+2028 and U+2029 as well, from version 24 on, which
 * may stand in a text in JSON.
 * @param chunks the file's bytes, wherever they are cut
 */
export async function* fileLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<FileLine> {
  let open: Buffer[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, start)) {
      const text = Buffer.concat([...open, chunk.subarray(start, at)]);
      yield { text: text.toString(), isWhole: true };
      open = [];
      start = at + 1;
    }
    if (start < chunk.length) open.push(chunk.subarray(start));
  }
  const rest = Buffer.concat(open);
  if (rest.length > 0) yield { text: rest.toString(), isWhole: false };
}

/** The bytes of a file that is there. @throws SLUICE_E_FILE_MISSING when it cannot be read */
export async function* readChunks(stream: ReadStream): AsyncGenerator<Buffer> {
  try {
    yield* stream as AsyncIterable<Buffer>;
  } catch (error) {
    throw unreadable(String(stream.path), error);
  }
}
