/**
 * Compressed files, unpacked as they are read. One rule: the name says how a file is packed, and the content must agree.
 * Whatever else is an error that names the format, so that packed bytes are never taken for text, nor text for packed bytes.
 */

import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip, type Gunzip } from 'node:zlib';
import { isLfsPointer, SluiceError } from '@sluice/core';
import type { TextSourceReader } from './source.ts';

type Unpack = (packed: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

interface Format {
  readonly name: string;
  /** Endings of names, in lower case. The first is the one to recommend. */
  readonly endings: readonly string[];
  readonly begins: (head: Buffer) => boolean;
  /** Missing where Sluice does not read the format. */
  readonly unpack?: Unpack;
}

const UNPACKED_CHUNK_BYTES = 1 << 18;
/** How much of a file is looked at to tell what it is. */
export const HEAD_BYTES = 512;

const beginsWith =
  (...beginnings: string[]) =>
  (head: Buffer): boolean =>
    beginnings.some((hex) => head.subarray(0, hex.length / 2).equals(Buffer.from(hex, 'hex')));

const FORMATS: readonly Format[] = [
  { name: 'gzip', endings: ['.gz', '.dz'], begins: beginsWith('1f8b'), unpack: unpackGzip },
  {
    name: 'Zstandard',
    endings: ['.zst', '.zstd'],
    begins: (head) =>
      beginsWith('28b52ffd')(head) || (head.length > 3 && (head.readUInt32LE(0) & ~15) === 0x184d2a50),
    unpack: unpackZstd,
  },
  {
    name: 'bzip2',
    endings: ['.bz2'],
    // After the level come the digits of pi, or those of its square root where nothing is packed.
    begins: (head) =>
      /^BZh[1-9]$/.test(head.toString('latin1', 0, 4)) &&
      beginsWith('314159265359', '177245385090')(head.subarray(4)),
    unpack: unpackBzip2,
  },
  { name: 'xz', endings: ['.xz'], begins: beginsWith('fd377a585a00'), unpack: unpackXz },
  { name: 'LZ4', endings: ['.lz4'], begins: beginsWith('04224d18', '02214c18') },
  { name: 'LZMA', endings: ['.lzma'], begins: beginsWith('5d0000') },
  { name: 'Brotli', endings: ['.br'], begins: () => false },
  { name: 'Snappy', endings: ['.sz', '.snappy'], begins: beginsWith('ff060000734e61507059') },
  { name: 'compress', endings: ['.z'], begins: beginsWith('1f9d') },
  { name: 'ZIP', endings: ['.zip'], begins: beginsWith('504b0304', '504b0506') },
  { name: '7z', endings: ['.7z'], begins: beginsWith('377abcaf271c') },
  {
    name: 'tar',
    endings: ['.tar', '.tgz', '.tbz2', '.txz', '.tzst'],
    begins: (head) => head.toString('latin1', 257, 262) === 'ustar',
  },
];

/** The name without the ending that says how the file is packed, if Sluice reads that. */
export function withoutPackedEnding(name: string): string {
  const format = namedFormat(name);
  if (format?.unpack === undefined) return name;
  return name.slice(0, -format.endings.find((ending) => name.toLowerCase().endsWith(ending))!.length);
}

/** Text becomes about so many times smaller, by whatever format. */
const USUAL_RATIO = 4;

/** How many bytes the files of all sources probably hold once they are unpacked. */
export function estimateUnpacked(sources: readonly TextSourceReader[]): number {
  return sources
    .flatMap(({ files }) => files)
    .reduce(
      (sum, { name, size }) => sum + (withoutPackedEnding(name) === name ? size : USUAL_RATIO * size),
      0,
    );
}

function namedFormat(name: string): Format | undefined {
  const lower = name.toLowerCase();
  return FORMATS.find(({ endings }) => endings.some((ending) => lower.endsWith(ending)));
}

function foundFormat(head: Buffer): Format | undefined {
  return FORMATS.find(({ begins }) => begins(head));
}

/**
 * The unpacked bytes of a file.
 * @param path of the file, for its name and for messages
 * @param bytes what is in it
 * @throws SluiceError SLUICE_E_DATA_COMPRESSION when name and content disagree, when the format is not read, and when
 *   the data is damaged or cut off; SLUICE_E_DATA_POINTER
 */
export async function* unpack(path: string, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const packed = await withHead(bytes);
  try {
    const format = agreedFormat(path, packed.head);
    if (format?.unpack === undefined) {
      yield* packed.whole();
      return;
    }
    const unpacked = await withHead(guarded(path, format, format.unpack(packed.whole())));
    try {
      const inner = foundFormat(unpacked.head);
      if (inner !== undefined)
        throw compressionError(path, `holds ${inner.name} data within its ${format.name} data`);
      yield* unpacked.whole();
    } finally {
      await unpacked.close();
    }
  } finally {
    await packed.close();
  }
}

/** The format that name and content agree on; undefined for a file that is not packed. */
function agreedFormat(path: string, head: Buffer): Format | undefined {
  refusePointer(path, head);
  const named = namedFormat(path);
  if (named !== undefined && named.unpack === undefined)
    throw compressionError(path, `is named as ${named.name}, which Sluice does not read`);
  const found = foundFormat(head);
  if (found !== undefined && found.unpack === undefined)
    throw compressionError(path, `holds ${found.name} data, which Sluice does not read`);
  if (named !== found) throw disagreement(path, named, found, head);
  return named;
}

/** Errors of an unpacker, told with the file. */
async function* guarded(
  path: string,
  { name }: Format,
  unpacked: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* unpacked;
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw compressionError(path, `holds damaged ${name} data: ${(error as Error).message}`, error);
  }
}

function disagreement(
  path: string,
  named: Format | undefined,
  found: Format | undefined,
  head: Buffer,
): SluiceError {
  if (head.length === 0) return compressionError(path, `is empty, and no ${named!.name} data`);
  if (found === undefined) {
    const plain = basename(withoutPackedEnding(path));
    return compressionError(
      path,
      `is named as ${named!.name} and does not hold it; name it ${plain} if that is what it is`,
    );
  }
  const right = `${basename(withoutPackedEnding(path))}${found.endings[0]}`;
  return compressionError(
    path,
    `holds ${found.name} data, which its name does not say; name it ${right}, or unpack it`,
  );
}

/** @throws SluiceError SLUICE_E_DATA_POINTER for what Git leaves in the place of a large file that was not fetched */
export function refusePointer(path: string, head: Buffer): void {
  if (!isLfsPointer(head)) return;
  throw new SluiceError(
    'SLUICE_E_DATA_POINTER',
    `${path} is a pointer of Git LFS, and not the file itself.`,
    {
      details: { path },
    },
  );
}

export function compressionError(path: string, problem: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_DATA_COMPRESSION', `${path} ${problem}.`, { details: { path }, cause });
}

/** A stream of which the beginning was looked at. */
interface Peeked {
  readonly head: Buffer;
  /** All its bytes, as if nothing had been read. */
  whole(): AsyncGenerator<Uint8Array>;
  /** Gives back what the stream holds, such as an open file or the one decoder of xz, however much was read. */
  close(): Promise<void>;
}

async function withHead(bytes: AsyncIterable<Uint8Array>): Promise<Peeked> {
  const iterator = bytes[Symbol.asyncIterator]();
  const read: Uint8Array[] = [];
  let length = 0;
  while (length < HEAD_BYTES) {
    const next = await iterator.next();
    if (next.done) break;
    read.push(next.value);
    length += next.value.length;
  }
  return {
    head: Buffer.concat(read).subarray(0, HEAD_BYTES),
    async *whole() {
      yield* read.splice(0);
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
    },
    async close() {
      await iterator.return?.();
    },
  };
}

/** gzip: members one after another, with extra fields, and zeros between and after them. */
async function* unpackGzip(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const source = packed[Symbol.asyncIterator]();
  try {
    let rest: Uint8Array | undefined = new Uint8Array();
    while (rest !== undefined) {
      const gunzip = createGunzip({ chunkSize: UNPACKED_CHUNK_BYTES });
      const fed = feed(gunzip, rest, source);
      yield* gunzip as AsyncIterable<Uint8Array>;
      rest = await skipZeros(await fed, source);
    }
  } finally {
    await source.return?.();
  }
}

/**
 * Gives `gunzip` bytes until there are no more, or until it has come to zeros after a member, where it stops.
 * @returns what it left of the last bytes. An error of the source reaches the reader of `gunzip`.
 */
async function feed(
  gunzip: Gunzip,
  first: Uint8Array,
  source: AsyncIterator<Uint8Array>,
): Promise<Uint8Array> {
  let given = 0;
  try {
    for (let bytes = first; ; ) {
      given += bytes.length;
      await written(gunzip, bytes);
      if (gunzip.destroyed || gunzip.bytesWritten < given)
        return bytes.subarray(bytes.length - (given - gunzip.bytesWritten));
      const next = await source.next();
      if (next.done) break;
      bytes = next.value;
    }
    gunzip.end();
  } catch (error) {
    gunzip.destroy(error as Error);
  }
  return new Uint8Array();
}

/** Settles once `gunzip` has taken the bytes, or ends or fails without them. */
function written(gunzip: Gunzip, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    gunzip.once('end', resolve);
    gunzip.write(bytes, () => {
      gunzip.off('end', resolve);
      resolve();
    });
  });
}

/** The bytes from the first that is not zero; undefined where none follows. */
async function skipZeros(
  bytes: Uint8Array,
  source: AsyncIterator<Uint8Array>,
): Promise<Uint8Array | undefined> {
  for (let rest = bytes; ; ) {
    const start = rest.findIndex((byte) => byte !== 0);
    if (start >= 0) return rest.subarray(start);
    const next = await source.next();
    if (next.done) return undefined;
    rest = next.value;
  }
}

/** bzip2: streams one after another. It is slow, and needs a block's bytes before it begins. */
// The libraries are loaded when a file asks for one: each process of a run would load all of them.

async function* unpackZstd(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { unpackZstandard } = await import('./zstandard.ts');
  yield* unpackZstandard(packed);
}

async function* unpackBzip2(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { default: unbzip2Stream } = await import('unbzip2-stream');
  const stream = unbzip2Stream();
  const ready: Uint8Array[] = [];
  let failure: Error | undefined;
  stream.on('data', (block: Uint8Array) => ready.push(block));
  stream.on('error', (error: Error) => {
    failure ??= new Error(bzip2Problem(error));
  });
  for await (const chunk of packed) {
    stream.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    if (failure !== undefined) throw failure;
    yield* ready.splice(0);
  }
  stream.end();
  if (failure !== undefined) throw failure;
  yield* ready;
}

/** What an error of the library means, most of whose texts tell nothing. */
function bzip2Problem(error: Error): string {
  // What JavaScript says when bytes run out.
  if (error instanceof TypeError || /prematurely/.test(error.message)) return 'it is cut off';
  if (/magic/.test(error.message)) return 'something else follows its end';
  return 'a checksum or the data is wrong';
}

/** What xz-embedded's codes mean (xz.h). */
const XZ_PROBLEMS: Readonly<Record<string, string>> = {
  3: 'there is no memory for its dictionary',
  4: 'its dictionary is larger than is granted',
  5: 'it is of another format',
  6: 'it uses options or a checksum (such as SHA-256) that are not supported; pack it again with xz --check=crc64',
  7: 'a checksum or the data is wrong',
  8: 'it is cut off, or something follows its end',
};

/** xz: streams one after another, with zeros between and after them; checksums CRC32 and CRC64. */
async function* unpackXz(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { default: xz } = await import('xz-decompress');
  const stream = new xz.XzReadableStream(
    Readable.toWeb(Readable.from(packed, { objectMode: false })) as ReadableStream<Uint8Array>,
  );
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) yield chunk;
  } catch (error) {
    const code = /error code (\d+)/.exec((error as Error).message)?.[1];
    throw code === undefined ? error : new Error(XZ_PROBLEMS[code] ?? `code ${code} of xz-embedded`);
  }
}
