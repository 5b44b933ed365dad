/**
 * Bytes that become text. What is no text in the encoding stops the preparation, becomes U+FFFD, or is dropped, and is
 * counted; a U+FFFD that was written by the text's author stays, whatever is done with the rest.
 */

import { isUtf8 } from 'node:buffer';
import { SluiceError } from '@sluice/core';
import type { TextOptions } from '../recipe.ts';
import type { IntakeCounts } from './source.ts';

export type InvalidBytes = TextOptions['invalidBytes'];
type DecodeOptions = Pick<TextOptions, 'encoding' | 'invalidBytes'>;

const REPLACEMENT = '\ufffd';

/** Encodings that can write U+FFFD, and how. In none of them can these bytes be anything else, at a whole unit. */
const WRITTEN_REPLACEMENT: Readonly<Record<string, { bytes: Buffer; unit: number }>> = {
  'utf-8': { bytes: Buffer.from([0xef, 0xbf, 0xbd]), unit: 1 },
  'utf-16le': { bytes: Buffer.from([0xfd, 0xff]), unit: 2 },
  'utf-16be': { bytes: Buffer.from([0xff, 0xfd]), unit: 2 },
};

/** The byte order marks by which files tell their encoding; the longer ones first. */
const BYTE_ORDER_MARKS = [
  ['utf-32le', 'fffe0000'],
  ['utf-32be', '0000feff'],
  ['utf-16le', 'fffe'],
  ['utf-16be', 'feff'],
] as const;

/**
 * The text of a stream of bytes, in chunks as they come, without a byte order mark.
 * @param path of the file, for messages
 * @throws SluiceError SLUICE_E_DATA_ENCODING for bytes that are no text, unless told otherwise, NUL among them
 */
export async function* textChunks(
  path: string,
  bytes: AsyncIterable<Uint8Array>,
  options: DecodeOptions,
  counts: IntakeCounts,
): AsyncGenerator<string> {
  const decoder = new Decoder(options, counts);
  let [position, line] = [0, 1];
  let begun = false;
  for await (const chunk of bytes) {
    if (position === 0) refuseOtherUnicode(path, chunk, decoder.encoding);
    let text = decoder.decode(chunk);
    if (text === null) throw invalidText(path, chunk, options.encoding, position, line);
    if (!begun && text !== '') {
      begun = true;
      if (text.startsWith('\ufeff')) text = text.slice(1);
    }
    yield text;
    position += chunk.length;
    line += countLines(text);
  }
  const rest = decoder.end();
  if (rest === null) {
    throw encodingError(
      path,
      `ends in the middle of a character of ${options.encoding}, at byte ${position}`,
    );
  }
  yield rest;
}

/**
 * The text of UTF-8 bytes that are whole by themselves.
 * @returns null for bytes that are no text, where that is to be an error
 */
export function decodeUtf8(
  bytes: Uint8Array,
  invalidBytes: InvalidBytes,
  counts: IntakeCounts,
): string | null {
  if (isUtf8(bytes)) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (invalidBytes === 'error') return null;
  const decoder = new Decoder({ encoding: 'utf-8', invalidBytes }, counts, { nulIsText: true });
  return decoder.decode(bytes)! + decoder.end()!;
}

/** Escapes of JSON can name halves of surrogate pairs, which no encoding can write: they become U+FFFD, and are counted. */
export function withoutLoneSurrogates(text: string, counts: IntakeCounts): string {
  return text.replace(/\p{Surrogate}/gu, () => {
    counts.invalidSequences++;
    return REPLACEMENT;
  });
}

/** @throws SluiceError SLUICE_E_DATA_ENCODING for a byte order mark of another encoding than the given */
export function refuseOtherUnicode(path: string, head: Uint8Array, encoding: string): void {
  const hex = Buffer.from(head.subarray(0, 4)).toString('hex');
  const found = BYTE_ORDER_MARKS.find(([, mark]) => hex.startsWith(mark))?.[0];
  if (found === undefined || found === encoding) return;
  throw encodingError(path, `begins with the byte order mark of ${found}, and is read as ${encoding}`, {
    found,
  });
}

/** A decoder of chunks that were cut anywhere. */
class Decoder {
  /** The encoding by its standard name. */
  readonly encoding: string;
  readonly #decoder: InstanceType<typeof TextDecoder>;
  readonly #invalidBytes: InvalidBytes;
  readonly #counts: IntakeCounts;
  readonly #nulIsText: boolean;
  readonly #written: { bytes: Buffer; unit: number } | undefined;
  #held: Buffer = Buffer.alloc(0);

  constructor({ encoding, invalidBytes }: DecodeOptions, counts: IntakeCounts, { nulIsText = false } = {}) {
    this.#decoder = new TextDecoder(encoding, { fatal: invalidBytes === 'error', ignoreBOM: true });
    this.encoding = this.#decoder.encoding;
    this.#invalidBytes = invalidBytes;
    this.#counts = counts;
    this.#nulIsText = nulIsText;
    this.#written = invalidBytes === 'error' ? undefined : WRITTEN_REPLACEMENT[this.encoding];
  }

  /** The text of the next bytes, or null if they are none and that is an error. */
  decode(chunk: Uint8Array): string | null {
    if (this.#written === undefined) return this.#piece(chunk, true);
    const { bytes: written, unit } = this.#written;
    const bytes = Buffer.concat([this.#held, chunk]);
    let text = '';
    let start = 0;
    for (let at = bytes.indexOf(written); at >= 0; at = bytes.indexOf(written, at)) {
      if (at % unit !== 0) {
        at++;
        continue;
      }
      text += this.#piece(bytes.subarray(start, at), false) + REPLACEMENT;
      at += written.length;
      start = at;
    }
    const end = Math.max(start, bytes.length - heldBack(bytes, written, unit));
    text += this.#piece(bytes.subarray(start, end), true);
    this.#held = bytes.subarray(end);
    return text;
  }

  end(): string | null {
    return this.#piece(this.#held, false);
  }

  /** @param more whether a character at the end may go on with the next piece */
  #piece(bytes: Uint8Array, more: boolean): string | null {
    try {
      return this.#tidy(this.#decoder.decode(bytes, { stream: more }));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') throw error;
      return null;
    }
  }

  #tidy(text: string): string | null {
    const invalid = this.#nulIsText ? /\ufffd/g : /[\ufffd\0]/g;
    if (this.#invalidBytes === 'error') return !this.#nulIsText && text.includes('\0') ? null : text;
    const put = this.#invalidBytes === 'replace' ? REPLACEMENT : '';
    return text.replace(invalid, () => {
      this.#counts.invalidSequences++;
      return put;
    });
  }
}

/** How many bytes at the end may be the beginning of a U+FFFD, or of a unit. */
function heldBack(bytes: Buffer, written: Buffer, unit: number): number {
  if (unit > 1) return bytes.length % unit;
  for (let length = written.length - 1; length > 0; length--) {
    if (bytes.subarray(-length).equals(written.subarray(0, length))) return length;
  }
  return 0;
}

/** Tells where in a chunk the first bytes are that are no text. */
function invalidText(
  path: string,
  chunk: Uint8Array,
  encoding: string,
  position: number,
  line: number,
): SluiceError {
  const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  const nul = bytes.indexOf(0);
  let start = 0;
  if (isUtf8Name(encoding)) {
    // What continues a character of the chunk before is not to be taken for the fault.
    while (start < 3 && (bytes[start]! & 0xc0) === 0x80) start++;
    for (let end = start; start < bytes.length; start = end) {
      const newline = bytes.indexOf(10, start);
      end = newline < 0 ? bytes.length : newline + 1;
      if (!isUtf8(bytes.subarray(start, end)) || (nul >= start && nul < end)) break;
      line++;
    }
  }
  const nulFirst = nul >= start && isUtf8(bytes.subarray(start, nul));
  const place = isUtf8Name(encoding) ? `line ${line}, near byte` : 'near byte';
  if (nulFirst) {
    const utf16 = looksLikeUtf16(bytes) ? ': it looks like utf-16le or utf-16be' : ', so it is no text';
    return encodingError(path, `holds NUL bytes (${place} ${position + nul})${utf16}`);
  }
  return encodingError(path, `is not ${encoding}, ${place} ${position + start}`);
}

function isUtf8Name(encoding: string): boolean {
  return new TextDecoder(encoding).encoding === 'utf-8';
}

/** Whether every other byte of the beginning is NUL, by and large. */
function looksLikeUtf16(bytes: Buffer): boolean {
  const head = bytes.subarray(0, 512);
  const share = (parity: number): number =>
    head.filter((byte, i) => byte === 0 && i % 2 === parity).length / Math.max(1, head.length / 2);
  return Math.abs(share(0) - share(1)) > 0.4;
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

export function encodingError(
  path: string,
  problem: string,
  details: Record<string, unknown> = {},
): SluiceError {
  return new SluiceError('SLUICE_E_DATA_ENCODING', `${path} ${problem}.`, { details: { path, ...details } });
}
