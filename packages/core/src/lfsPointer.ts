/** Git LFS keeps a few lines in the place of a large file until that is fetched. */

const BEGINNING = 'version https://git-lfs.github.com/spec/';

/** Bytes of a file's beginning that tell whether it is such a pointer. */
export const LFS_POINTER_BYTES = BEGINNING.length;

/** @param content of a file: at least its first bytes, or its text */
export function isLfsPointer(content: string | Uint8Array): boolean {
  const text =
    typeof content === 'string'
      ? content
      : Buffer.from(content.subarray(0, BEGINNING.length)).toString('latin1');
  return text.startsWith(BEGINNING);
}
