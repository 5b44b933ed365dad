/** Files of token ids, and of the logits that a model has for them. */

import { readTextFile, SluiceError, writeOutputFile } from '@sluice/core';
import type { InferenceModel } from '@sluice/evaluate';

/**
 * Reads rows of token ids, all of one length.
 * @param vocabularySize what every id must be below
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_TOKEN_IDS_INVALID
 */
export function readTokenIds(path: string, vocabularySize: number): Int32Array[] {
  const text = readTextFile(path);
  let rows: unknown;
  try {
    rows = JSON.parse(text);
  } catch (error) {
    throw invalid(path, `it is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(rows) || rows.length === 0) throw invalid(path, 'it holds no list of rows');
  return rows.map((row, i) => {
    if (!Array.isArray(row) || row.length === 0) throw invalid(path, `row ${i} is no list of ids`);
    if (row.length !== rows[0].length)
      throw invalid(path, `row ${i} has ${row.length} ids, row 0 has ${rows[0].length}`);
    const bad = row.findIndex((id) => !Number.isSafeInteger(id) || id < 0 || id >= vocabularySize);
    if (bad >= 0) {
      const value = JSON.stringify(row[bad]);
      throw invalid(path, `id ${bad} of row ${i} is ${value}, not a whole number below ${vocabularySize}`);
    }
    return Int32Array.from(row);
  });
}

function invalid(path: string, reason: string): SluiceError {
  return new SluiceError('SLUICE_E_TOKEN_IDS_INVALID', `${path} cannot be used: ${reason}.`, {
    details: { path, reason },
  });
}

/**
 * Writes `{"shape": [rows, tokens, vocabulary], "logits": [[[…]]]}`, row by row, whole or not at all. Nine digits give back
 * the very float.
 * @returns the shape
 * @throws what `writeOutputFile` throws
 */
export async function writeLogits(
  path: string,
  model: Pick<InferenceModel, 'decoder' | 'logits'>,
  rows: readonly Int32Array[],
  signal?: AbortSignal,
): Promise<number[]> {
  const shape = [rows.length, rows[0]!.length, model.decoder.config.vocabularySize];
  await writeOutputFile(path, logitsAsJson(shape, model, rows), signal);
  return shape;
}

/** The text of the file, position after position: as a whole it could be longer than any string may be. */
function* logitsAsJson(
  shape: readonly number[],
  model: Pick<InferenceModel, 'decoder' | 'logits'>,
  rows: readonly Int32Array[],
): Generator<string> {
  const { vocabularySize } = model.decoder.config;
  yield `{"shape":${JSON.stringify(shape)},"logits":[`;
  for (const [i, row] of rows.entries()) {
    const logits = model.logits(row);
    for (let t = 0; t < row.length; t++) {
      const values = logits.subarray(t * vocabularySize, (t + 1) * vocabularySize);
      const numbers = Array.from(values, (value) => Number(value.toPrecision(9))).join(',');
      yield `${t > 0 ? ',' : i > 0 ? '],\n[' : '\n['}\n[${numbers}]`;
    }
  }
  yield ']\n]}\n';
}
