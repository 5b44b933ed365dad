/** Byte-level tokens: every byte is written as one printable character, so that tokens are text whatever they hold. */

/** GPT-2's printable stand-in for each byte: itself where it is visible in Latin-1, else a character from U+0100 on. */
export const BYTE_TO_CHARACTER: readonly string[] = byteCharacters();

/** The byte that a stand-in character means. */
const CHARACTER_TO_BYTE: ReadonlyMap<string, number> = new Map(
  BYTE_TO_CHARACTER.map((character, byte) => [character, byte]),
);

function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(visible ? byte : next++);
  });
}

/**
 * The bytes that a token means. One that holds a character which stands for no byte, such as a special token, means its own
 * UTF-8, as in Hugging Face's `ByteLevel` decoder.
 */
export function tokenBytes(token: string): Uint8Array {
  return standInBytes(token) ?? Buffer.from(token);
}

/** The bytes that a token of stand-in characters means, or undefined when it holds another character. */
export function standInBytes(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = CHARACTER_TO_BYTE.get(token[i]!);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
