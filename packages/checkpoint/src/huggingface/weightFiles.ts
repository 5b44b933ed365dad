/** Which safetensors files a Hugging Face directory's weights are in: one, several with an index, or not yet any. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readTextFile, SluiceError } from '@sluice/core';

export const CONFIG_NAME = 'config.json';
export const SINGLE_NAME = 'model.safetensors';
export const INDEX_NAME = 'model.safetensors.index.json';

/**
 * Paths of the files, in order of names.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_HF_TENSORS (no weights, or a broken index), SLUICE_E_HF_PYTORCH_FILE
 */
export async function weightFiles(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error) => {
    throw new SluiceError(
      'SLUICE_E_FILE_MISSING',
      `The directory ${directory} cannot be read (${error.code}).`,
      {
        details: { path: directory },
        cause: error,
      },
    );
  });
  const found = names.includes(INDEX_NAME) ? indexedFiles(directory) : plainFiles(names);
  if (found.length > 0) return found.map((name) => join(directory, name));
  if (names.some(isPickle)) throw pickled(directory);
  throw new SluiceError('SLUICE_E_HF_TENSORS', `${directory} holds no weights (${SINGLE_NAME}).`, {
    details: { path: directory },
  });
}

function plainFiles(names: readonly string[]): string[] {
  if (names.includes(SINGLE_NAME)) return [SINGLE_NAME];
  return names.filter((name) => name.endsWith('.safetensors')).sort();
}

function indexedFiles(directory: string): string[] {
  const path = join(directory, INDEX_NAME);
  const index = readJson(path);
  const files = Object.values((index.weight_map ?? {}) as Record<string, unknown>);
  // A name that is a path would lead out of the directory.
  const bad = files.find((file) => typeof file !== 'string' || !/^[\w.-]+$/.test(file));
  if (files.length === 0 || bad !== undefined) {
    const reason = files.length === 0 ? 'names no files' : `names the file ${JSON.stringify(bad)}`;
    throw new SluiceError('SLUICE_E_HF_TENSORS', `The index ${path} ${reason}.`, { details: { path } });
  }
  return [...new Set(files as string[])].sort();
}

/**
 * Reads a JSON file that holds an object.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_HF_CONFIG
 */
export function readJson(path: string): Record<string, unknown> {
  const text = readTextFile(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalidJson(path, (error as Error).message, error);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw invalidJson(path, 'it is no object');
  return json as Record<string, unknown>;
}

function invalidJson(path: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_HF_CONFIG', `${path} cannot be used: ${reason}.`, {
    details: { path },
    cause,
  });
}

function isPickle(name: string): boolean {
  return /^pytorch_model.*\.bin$/.test(name);
}

/** Only Python reads pickles, so the message says how to be rid of them. */
function pickled(directory: string): SluiceError {
  const command =
    'python3 -c "import glob, torch; from safetensors.torch import save_file; ' +
    "[save_file({k: v.clone().contiguous() for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}, " +
    `f[:-4] + '.safetensors', {'format': 'pt'}) for f in glob.glob('${directory}/pytorch_model*.bin')]"`;
  return new SluiceError(
    'SLUICE_E_HF_PYTORCH_FILE',
    `The weights in ${directory} are a Python pickle (pytorch_model.bin). With the Python packages torch and safetensors installed, run:\n${command}`,
    { details: { path: directory, command } },
  );
}
