/** Loads the model that a command was asked for, and closes it when the command has done with it. */

import type { BackendName, Computation, Precision } from '@sluice/engine';
import { type InferenceModel, loadForInference, selectForInference } from '@sluice/evaluate';
import { dataRoots } from './dataRoot.ts';
import { locateModel } from './locateCheckpoint.ts';

export interface ModelRequest {
  /** A run directory, for its newest sound checkpoint; a checkpoint directory; or a Hugging Face directory. */
  readonly source: string;
  /** Changes of the rotary embedding. */
  readonly set?: readonly string[] | undefined;
  /** What computes; `native` when left out. */
  readonly backend?: BackendName | undefined;
  /** Of activations; the backend's own when left out. */
  readonly precision?: Precision | undefined;
}

/**
 * @param use gets the model, which is closed when the promise has settled
 * @returns what `use` returned, and what computed it
 * @throws the errors of `selectForInference`; SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_NO_CHECKPOINT, and the coded
 *   errors of the checkpoint
 */
export async function withModel<T>(
  { source, set, backend = 'native', precision }: ModelRequest,
  log: (line: string) => void,
  use: (model: InferenceModel) => Promise<T>,
): Promise<{ readonly result: T; readonly computedBy: Computation }> {
  // Before a checkpoint's bytes are hashed, which takes longer than to see that there is no such backend here.
  await selectForInference({ backend, precision });
  const directory = await locateModel(source, log);
  const model = await loadForInference(directory, {
    ...{ backend, precision },
    threads: 0,
    set,
    log,
    corpora: dataRoots().outputRoot,
  });
  try {
    return { result: await use(model), computedBy: model.computedBy };
  } finally {
    model.close();
  }
}
