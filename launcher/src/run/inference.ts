/** Loads the model that a path means, on the backend that its run was configured for. */

import { type InferenceModel, loadForInference } from '@sluice/evaluate';
import { locateCheckpoint, refusedLine } from './locateCheckpoint.ts';

/**
 * @param path a run directory, for its newest valid checkpoint, or a checkpoint directory
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_NO_CHECKPOINT, and the coded errors of the checkpoint
 */
export async function loadCheckpointForInference(
  path: string,
  log: (line: string) => void,
): Promise<InferenceModel> {
  const directory = await locateCheckpoint(path, (refused) => log(refusedLine(refused)));
  return loadForInference(directory, { backend: 'native', threads: 0 });
}
