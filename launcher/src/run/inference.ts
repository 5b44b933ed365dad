/** Loads the model that a command was asked for. */

import { type InferenceModel, loadForInference } from '@sluice/evaluate';
import { locateModel } from './locateCheckpoint.ts';

/**
 * @param path a run directory, for its newest valid checkpoint; a checkpoint directory; or a Hugging Face directory
 * @param set changes of the rotary embedding
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_NO_CHECKPOINT, and the coded errors of the checkpoint
 */
export async function loadModelForInference(
  path: string,
  log: (line: string) => void,
  set?: readonly string[] | undefined,
): Promise<InferenceModel> {
  const directory = await locateModel(path, log);
  return loadForInference(directory, { backend: 'native', threads: 0, set });
}
