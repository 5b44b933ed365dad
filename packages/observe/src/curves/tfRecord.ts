/**
 * TFRecord files: records one after another, each its length (8 bytes, little-endian), the length's checksum, its bytes, and
 * their checksum. Checksums are CRC-32C, masked (tensorflow/core/lib/io/record_writer.h, lib/hash/crc32c.h).
 */

import { createReadStream } from 'node:fs';
import { SluiceError } from '@sluice/core';

/** Bytes of a length with its checksum. */
export const RECORD_HEADER_BYTES = 12;
const CHECKSUM_BYTES = 4;
const CHUNK_BYTES = 1 << 20;

/** Castagnoli's polynomial, bits reversed. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++)
    remainder = remainder & 1 ? (remainder >>> 1) ^ POLYNOMIAL : remainder >>> 1;
  return remainder;
});

/** CRC-32C, rotated by 15 bits and moved by a constant, so that a record may hold checksums of its own. */
export function maskedChecksum(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) remainder = (remainder >>> 8) ^ TABLE[(remainder ^ byte) & 0xff]!;
  const sum = ~remainder;
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}

/** Whether a file that begins with these bytes is one of records. */
export function startsRecord(head: Buffer): boolean {
  return head.length >= RECORD_HEADER_BYTES && head.readUInt32LE(8) === maskedChecksum(head.subarray(0, 8));
}

/**
 * The records of a file in order, in memory for one of them and a chunk. The last one is left out where the file ends within it,
 * as it does while it is written.
 * @param onRead told how many bytes have been read
 * @throws SLUICE_E_CURVE_DAMAGED where a checksum does not match, with the offset of the record
 */
export async function* readRecords(path: string, onRead?: (bytes: number) => void): AsyncGenerator<Buffer> {
  let pending: Buffer = Buffer.alloc(0);
  let offset = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    let start = 0;
    while (pending.length - start >= RECORD_HEADER_BYTES) {
      const header = pending.subarray(start, start + RECORD_HEADER_BYTES);
      if (!startsRecord(header)) throw damaged(path, offset + start, 'the length of a record');
      const begin = start + RECORD_HEADER_BYTES;
      const end = begin + Number(header.readBigUInt64LE(0));
      if (pending.length < end + CHECKSUM_BYTES) break;
      const record = pending.subarray(begin, end);
      if (pending.readUInt32LE(end) !== maskedChecksum(record))
        throw damaged(path, offset + start, 'a record');
      yield record;
      start = end + CHECKSUM_BYTES;
    }
    pending = pending.subarray(start);
    offset += start;
    onRead?.(offset);
  }
}

/** @param what whose bytes are not those that were written */
export function damaged(path: string, offset: number, what: string): SluiceError {
  return new SluiceError(
    'SLUICE_E_CURVE_DAMAGED',
    `${path}, byte ${offset}: ${what} is not what was written; its checksum is another.`,
    { details: { path, offset } },
  );
}

/** A record as it stands in a file. */
export function frameRecord(record: Uint8Array): Buffer {
  const framed = Buffer.alloc(RECORD_HEADER_BYTES + record.length + CHECKSUM_BYTES);
  framed.writeBigUInt64LE(BigInt(record.length), 0);
  framed.writeUInt32LE(maskedChecksum(framed.subarray(0, 8)), 8);
  framed.set(record, RECORD_HEADER_BYTES);
  framed.writeUInt32LE(maskedChecksum(record), RECORD_HEADER_BYTES + record.length);
  return framed;
}
