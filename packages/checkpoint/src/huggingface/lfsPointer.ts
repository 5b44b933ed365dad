/** Files of a Hugging Face directory that are pointers of Git LFS. */

import { open } from 'node:fs/promises';
import { isLfsPointer, LFS_POINTER_BYTES, SluiceError } from '@sluice/core';

/**
 * @param path of the file, for the message
 * @param content at least its first bytes
 * @throws SLUICE_E_HF_LFS_POINTER
 */
export function refuseLfsPointer(path: string, content: string | Uint8Array): void {
  if (!isLfsPointer(content)) return;
  throw new SluiceError(
    'SLUICE_E_HF_LFS_POINTER',
    `${path} is a pointer of Git LFS, not the file that it stands for.`,
    { details: { path } },
  );
}

/** As `refuseLfsPointer`, of a file that may be large; one that cannot be read is left to whoever reads it. */
export async function refuseLfsPointerAt(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  if (handle === undefined) return;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(LFS_POINTER_BYTES), 0, LFS_POINTER_BYTES, 0);
    refuseLfsPointer(path, buffer.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}
