/** Writes what `brs` sources read, for tests: LZW as Unix `compress` does it, and the Bible Retrieval System's file. */

/** Codes of 9 to 16 bits, least significant bit first, in groups of eight codes of one width. */
export function compressLzw(bytes: Uint8Array): Uint8Array {
  const table = new Map<string, number>();
  const output: number[] = [];
  let group: number[] = [];
  let width = 9;
  let free = 257;
  const flushGroup = (padded: boolean): void => {
    let bits = 0n;
    for (const [i, code] of group.entries()) bits |= BigInt(code) << BigInt(i * width);
    const length = padded ? width : Math.ceil((group.length * width) / 8);
    for (let i = 0; i < length; i++) output.push(Number((bits >> BigInt(8 * i)) & 0xffn));
    group = [];
  };
  let prefix = '';
  const codeOf = (text: string): number => (text.length === 1 ? text.charCodeAt(0) : table.get(text)!);
  // The decoder knows an entry one code later than the encoder, and widens when its own table is full.
  let emitted = 0;
  const emit = (code: number): void => {
    if (emitted > 0 && Math.min(257 + emitted - 1, 65536) > 2 ** width - 1 && width < 16) {
      if (group.length > 0) flushGroup(true);
      width++;
    }
    group.push(code);
    emitted++;
    if (group.length === 8) flushGroup(true);
  };
  for (const byte of bytes) {
    const letter = String.fromCharCode(byte);
    if (prefix === '' || table.has(prefix + letter)) {
      prefix += letter;
      continue;
    }
    emit(codeOf(prefix));
    if (free < 65536) table.set(prefix + letter, free++);
    prefix = letter;
  }
  if (prefix !== '') emit(codeOf(prefix));
  if (group.length > 0) flushGroup(false);
  return Uint8Array.from(output);
}

/** A data file of the Bible Retrieval System with the text in windows of `windowBytes`. */
export function brsFile(text: string, windowBytes: number): Uint8Array {
  const bytes = Buffer.from(text, 'latin1');
  const windows: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; start += windowBytes) {
    windows.push(compressLzw(bytes.subarray(start, start + windowBytes)));
  }
  const header = Buffer.alloc(0x5c + 4 * (windows.length + 1) + 3);
  header.write('EC02', 0, 'latin1');
  header.writeUInt32BE(windowBytes, 0x54);
  header.writeUInt32BE(windows.length, 0x58);
  let offset = header.length;
  for (const [i, window] of windows.entries()) {
    header.writeUInt32BE(offset, 0x5c + 4 * i);
    offset += window.length;
  }
  header.writeUInt32BE(offset, 0x5c + 4 * windows.length);
  header.set([0x1f, 0x9d, 0x90], header.length - 3);
  return Buffer.concat([header, ...windows]);
}
