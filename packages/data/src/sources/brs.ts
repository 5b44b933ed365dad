/**
 * The data file of the Bible Retrieval System (Debian's bible-kjv-text): windows of text, each compressed by the LZW
 * of Unix `compress`, with a table of their offsets. Its lines are `Ge1:1 In the beginning…`; a document is a chapter.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import type { FolderListing } from './files.ts';
import type { DocumentPart, SourceFile, TextSourceReader } from './source.ts';

const HEADER_BYTES = 0x5c;
const MAGIC = 'EC02';
/** `compress`'s magic number, with block mode and codes of up to 16 bits; written before the first window only. */
const LZW_FLAGS = 0x90;

export function brsSource(label: string, listing: FolderListing): TextSourceReader {
  return {
    label,
    ...listing,
    async *documents() {
      for (const file of listing.files) yield* chapters(file);
    },
  };
}

function* chapters({ path, name }: SourceFile): Generator<DocumentPart> {
  let chapter = '';
  let verses: string[] = [];
  const flush = (): DocumentPart => ({ name: `${name}:${chapter}`, text: verses.join('\n'), last: true });
  for (const line of lines(path)) {
    const verse = /^([1-3]?[A-Za-z]+\d+):(\d+) (.*)$/.exec(line);
    if (verse === null) continue;
    if (verse[1] !== chapter) {
      if (verses.length > 0) yield flush();
      chapter = verse[1]!;
      verses = [];
    }
    verses.push(`${verse[2]} ${verse[3]}`);
  }
  if (verses.length > 0) yield flush();
}

function* lines(path: string): Generator<string> {
  let rest = '';
  for (const window of windows(path)) {
    const parts = (rest + window.toString('latin1')).split('\n');
    rest = parts.pop()!;
    yield* parts;
  }
  if (rest !== '') yield rest;
}

function* windows(path: string): Generator<Buffer> {
  const file = openSync(path, 'r');
  try {
    const header = readAt(file, path, 0, HEADER_BYTES);
    if (header.toString('latin1', 0, 4) !== MAGIC) throw badFile(path, `it does not begin with ${MAGIC}`);
    const count = header.readUInt32BE(0x58);
    const offsets = readAt(file, path, HEADER_BYTES, 4 * (count + 1));
    const flags = readAt(file, path, offsets.readUInt32BE(0) - 1, 1)[0];
    if (flags !== LZW_FLAGS) throw badFile(path, `its compression has flags ${flags}, not ${LZW_FLAGS}`);
    for (let i = 0; i < count; i++) {
      const start = offsets.readUInt32BE(4 * i);
      yield decompressLzw(readAt(file, path, start, offsets.readUInt32BE(4 * (i + 1)) - start), path);
    }
  } finally {
    closeSync(file);
  }
}

function readAt(file: number, path: string, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(Math.max(0, length));
  if (length < 0 || readSync(file, bytes, 0, length, position) !== length)
    throw badFile(path, 'it is cut short');
  return bytes;
}

/**
 * Unix `compress`: codes of 9 to 16 bits, least significant bit first; 256 empties the table. Codes are written in
 * groups of eight, so that a change of width skips what is left of a group.
 */
function decompressLzw(packed: Uint8Array, path = 'input'): Buffer {
  const CLEAR = 256;
  const prefix = new Uint16Array(1 << 16);
  const suffix = new Uint8Array(1 << 16);
  const output: number[] = [];
  const word: number[] = [];
  let free = CLEAR + 1;
  let width = 9;
  let previous = -1;
  let firstByte = 0;
  let bit = 0;
  let groupStart = 0;
  const alignGroup = (): void => {
    const groupBits = width * 8;
    bit = groupStart + Math.ceil((bit - groupStart) / groupBits) * groupBits;
    groupStart = bit;
  };
  while (bit + width <= packed.length * 8) {
    if (free > 2 ** width - 1 && width < 16 && previous >= 0) {
      alignGroup();
      width++;
      continue;
    }
    const at = bit >> 3;
    const bits = packed[at]! | ((packed[at + 1] ?? 0) << 8) | ((packed[at + 2] ?? 0) << 16);
    const code = (bits >> (bit & 7)) & (2 ** width - 1);
    bit += width;
    if (code === CLEAR && previous >= 0) {
      free = CLEAR;
      alignGroup();
      width = 9;
      previous = -1;
      continue;
    }
    if (previous >= 0 && code > free) throw badFile(path, `code ${code} comes before it is defined`);
    word.length = 0;
    let rest = code;
    if (previous >= 0 && code === free) {
      word.push(firstByte);
      rest = previous;
    }
    for (; rest > CLEAR; rest = prefix[rest]!) word.push(suffix[rest]!);
    firstByte = rest;
    word.push(firstByte);
    for (let i = word.length - 1; i >= 0; i--) output.push(word[i]!);
    if (previous >= 0 && free < 1 << 16) {
      prefix[free] = previous;
      suffix[free] = firstByte;
      free++;
    }
    previous = code;
  }
  return Buffer.from(output);
}

function badFile(path: string, reason: string): SluiceError {
  return new SluiceError('SLUICE_E_DATA_RECORD', `${path} is no BRS data file: ${reason}.`, {
    details: { path },
  });
}
