/** The key of a run's connections between machines, in a file that only its owner reads. */

import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type CurveKeys, generateCurveKeys } from '@sluice/collectives';
import { SluiceError, writeError } from '@sluice/core';
import { z } from 'zod';

const key = z
  .string()
  .regex(/^[0-9a-zA-Z.\-:+=^!/*?&<>()[\]{}@%$#]{40}$/, 'a CURVE key has 40 characters of Z85');

/** A CURVE key pair (ZeroMQ), each key in Z85. */
export const KeyFile = z.strictObject({ publicKey: key, secretKey: key });

/** @throws SLUICE_E_KEY_FILE when it is none, or can be read by others */
export function readKeyFile(path: string): CurveKeys {
  let text: string;
  try {
    const { mode } = statSync(path);
    // Files of a secret's volume belong to root, and are opened to the group by the scheduler.
    if ((mode & 0o007) !== 0) throw invalid(path, `others may read it (mode ${(mode & 0o777).toString(8)})`);
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw invalid(path, `it cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  try {
    return KeyFile.parse(JSON.parse(text));
  } catch {
    throw invalid(path, 'it holds no JSON object with publicKey and secretKey, of 40 characters each');
  }
}

/**
 * Writes a new key where nothing is yet: of another one, agents may be using a copy.
 * @throws SLUICE_E_OUTPUT_EXISTS, SLUICE_E_FILE_UNWRITABLE
 */
export function newKeyFile(path: string): CurveKeys {
  if (existsSync(path)) {
    throw new SluiceError('SLUICE_E_OUTPUT_EXISTS', `${path} is there already; nothing was written.`, {
      details: { path },
    });
  }
  return makeKeyFile(path);
}

/** Writes a new key. @throws SLUICE_E_FILE_UNWRITABLE */
export function makeKeyFile(path: string): CurveKeys {
  const keys = generateCurveKeys();
  try {
    writeFileSync(path, `${JSON.stringify(keys)}\n`, { mode: 0o600 });
    chmodSync(path, 0o600);
  } catch (error) {
    throw writeError(path, error);
  }
  return keys;
}

function invalid(path: string, why: string): SluiceError {
  return new SluiceError('SLUICE_E_KEY_FILE', `${path} is no key of a run: ${why}.`, { details: { path } });
}
