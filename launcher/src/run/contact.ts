/** How the coordinator of a run is reached by whoever may read the run's directory: a file that is there while it can be asked. */

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { SluiceError, writeError } from '@sluice/core';
import { z } from 'zod';
import { KeyFile } from '../fleet/keyFile.ts';

export const Contact = z.strictObject({
  /** The run's token. */
  run: z.string(),
  pid: z.int(),
  host: z.string(),
  /** When the process began, in its system's notation. */
  started: z.string(),
  /** In which container, where there are such things. */
  container: z.string().optional(),
  /** Where it listens: any of these. */
  endpoints: z.array(z.string()),
  /** Key of the connection; none where only this machine can make one. */
  curve: KeyFile.optional(),
});
export type Contact = z.infer<typeof Contact>;

/** Writes the file, which holds a key, for its owner alone. @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL */
export function writeContact(path: string, contact: Contact): void {
  const temporary = `${path}.${process.pid}`;
  try {
    rmSync(temporary, { force: true });
    writeFileSync(temporary, `${JSON.stringify(contact)}\n`, { mode: 0o600 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw writeError(path, error);
  }
}

/** Removes the file, if it is still that of this process. */
export function removeContact(path: string): void {
  try {
    if (readContact(path)?.pid === process.pid) rmSync(path, { force: true });
  } catch {
    // A file that stays says only of a process that has ended.
  }
}

/**
 * @returns undefined where there is none, or none that could have been written whole
 * @throws SLUICE_E_COORDINATOR_DENIED where it may not be read
 */
export function readContact(path: string): Contact | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM') return undefined;
    throw new SluiceError('SLUICE_E_COORDINATOR_DENIED', `${path} may not be read by you (${code}).`, {
      details: { path },
    });
  }
  try {
    return Contact.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
