/** Which safetensors files a Hugging Face directory's weights are in: one, several with an index, or not yet any. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readTextFile, SluiceError } from '@sluice/core';
import { refuseLfsPointer } from './lfsPointer.ts';

export const CONFIG_NAME = 'config.json';
export const SINGLE_NAME = 'model.safetensors';
export const INDEX_NAME = 'model.safetensors.index.json';
const ADAPTER_NAME = 'adapter_config.json';

/** The files of a directory's weights, and what was passed over to choose them. */
export interface WeightFiles {
  /** In order of names. */
  readonly paths: readonly string[];
  /** Names of tensors that an index says are there. */
  readonly indexed: readonly string[];
  /** Something that a person should know of the choice. */
  readonly notes: readonly string[];
}

/**
 * Chooses the files as `transformers` does: `model.safetensors` goes before an index, which goes before whatever other
 * safetensors there are.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_HF_TENSORS (no weights, or a broken index), SLUICE_E_HF_PYTORCH_FILE
 */
export async function weightFiles(directory: string): Promise<WeightFiles> {
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
  // Where Python has the package peft, it takes the adapter along.
  const adapter = names.includes(ADAPTER_NAME)
    ? [`the adapter of ${ADAPTER_NAME} beside the weights is passed over; merge it into them to have it`]
    : [];
  const at = (files: readonly string[]) => files.map((name) => join(directory, name));
  if (names.includes(SINGLE_NAME)) {
    const notes = names.includes(INDEX_NAME)
      ? [`the weights are those of ${SINGLE_NAME}; ${INDEX_NAME} beside it is passed over`]
      : [];
    return { paths: at([SINGLE_NAME]), indexed: [], notes: [...notes, ...adapter] };
  }
  if (names.includes(INDEX_NAME)) {
    const { files, tensors } = readIndex(join(directory, INDEX_NAME));
    return { paths: at(files), indexed: tensors, notes: adapter };
  }
  const found = names.filter((name) => name.endsWith('.safetensors') && !name.startsWith('adapter_')).sort();
  if (found.length === 0) throw noWeights(directory, names);
  return { paths: at(found), indexed: [], notes: adapter };
}

function readIndex(path: string): { files: string[]; tensors: string[] } {
  const { weight_map: map } = readJson(path);
  const entries = Object.entries(typeof map === 'object' && map !== null ? map : {});
  // A name that is a path would lead out of the directory.
  const bad = entries.find(([, file]) => typeof file !== 'string' || !/^[^/\\]*[^/\\.][^/\\]*$/.test(file));
  if (entries.length === 0 || bad !== undefined) {
    const reason = bad === undefined ? 'names no files' : `names the file ${JSON.stringify(bad[1])}`;
    throw new SluiceError('SLUICE_E_HF_TENSORS', `The index ${path} ${reason}.`, { details: { path } });
  }
  const files = [...new Set(entries.map(([, file]) => String(file)))].sort();
  return { files, tensors: entries.map(([name]) => name) };
}

/** Weights of other formats, by the endings of their names. */
const OTHER_FORMATS = /\.(bin|pth|pt|ckpt|gguf|ggml|h5|msgpack|onnx|npz|safetensors)$/;

function noWeights(directory: string, names: readonly string[]): SluiceError {
  if (names.some(isPickle)) return pickled(directory);
  const others = names.filter((name) => OTHER_FORMATS.test(name)).sort();
  const [first] = others;
  const found =
    first === undefined
      ? ''
      : first.startsWith('adapter_')
        ? `, only an adapter (${first}): merge it into its model first`
        : `, only ${others.slice(0, 3).join(', ')}, which Sluice does not read`;
  return new SluiceError('SLUICE_E_HF_TENSORS', `${directory} holds no weights (${SINGLE_NAME})${found}.`, {
    details: { path: directory, found: others },
  });
}

/**
 * Reads a JSON file that holds an object.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_HF_CONFIG, SLUICE_E_HF_LFS_POINTER
 */
export function readJson(path: string): Record<string, unknown> {
  const text = readTextFile(path);
  refuseLfsPointer(path, text);
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
