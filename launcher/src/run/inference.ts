/** Loads the model that a command was asked for, and closes it when the command has done with it. */

import { type InferenceModel, loadForInference } from '@sluice/evaluate';
import { dataRoots } from './dataRoot.ts';
import { locateModel } from './locateCheckpoint.ts';

export interface ModelRequest {
  /** A run directory, for its newest sound checkpoint; a checkpoint directory; or a Hugging Face directory. */
  readonly source: string;
  /** Changes of the rotary embedding. */
  readonly set?: readonly string[] | undefined;
}

/**
 * @param use gets the model, which is closed when the promise has settled
 * @returns what `use` returned
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_NO_CHECKPOINT, and the coded errors of the checkpoint
 */
export async function withModel<T>(
  { source, set }: ModelRequest,
  log: (line: string) => void,
  use: (model: InferenceModel) => Promise<T>,
): Promise<T> {
  const directory = await locateModel(source, log);
  const model = await loadForInference(directory, {
    backend: 'native',
    threads: 0,
    set,
    corpora: dataRoots().outputRoot,
  });
  try {
    return await use(model);
  } finally {
    model.close();
  }
}
