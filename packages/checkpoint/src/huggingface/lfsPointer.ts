/** Git LFS keeps a few lines in the place of a large file until that is fetched. */

import { open } from 'node:fs/promises';
import { SluiceError } from '@sluice/core';

const BEGINNING = 'version https://git-lfs.github.com/spec/';

/**
 * @param path of the file, for the message
 * @param content at least its first bytes
 * @throws SLUICE_E_HF_LFS_POINTER
 */
export function refuseLfsPointer(path: string, content: string | Uint8Array): void {
  const text =
    typeof content === 'string' ? content : Buffer.from(content).toString('latin1', 0, BEGINNING.length);
  if (!text.startsWith(BEGINNING)) return;
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
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(BEGINNING.length), 0, BEGINNING.length, 0);
    refuseLfsPointer(path, buffer.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}
