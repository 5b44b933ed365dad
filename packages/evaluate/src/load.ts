/** Loading a checkpoint for inference: the weights only, on one process. */

import { availableParallelism } from 'node:os';
import { openCheckpoint } from '@sluice/checkpoint';
import { parseConfig } from '@sluice/core';
import { loadTokenizer, openDataset } from '@sluice/data';
import { Parameter, selectBackend, setThreads } from '@sluice/engine';
import { Decoder, modelParameters } from '@sluice/model';
import { RunConfig } from '@sluice/train';
import { InferenceModel } from './inferenceModel.ts';

export interface LoadOptions {
  /** TensorFlow.js backend; `native` falls back to `cpu`. */
  readonly backend: string;
  /** 0 for all cores. */
  readonly threads: number;
  /** Prepared corpus, for the tokenizer and for `evaluate`; the one of the run when left out. */
  readonly dataDirectory?: string;
}

/**
 * @param directory of a checkpoint
 * @throws SLUICE_E_CHECKPOINT_… where the checkpoint cannot be read, and the errors of the corpus
 */
export async function loadForInference(directory: string, options: LoadOptions): Promise<InferenceModel> {
  await selectBackend(options.backend);
  setThreads(options.threads || availableParallelism());
  const reader = await openCheckpoint(directory);
  try {
    const { manifest } = reader;
    const { model, data } = parseConfig(manifest.config, RunConfig, directory);
    const parameters = new Map<string, Parameter>();
    for (const { name, shape, size, tensors } of modelParameters(model)) {
      const values = new Float32Array(size);
      for (const tensor of tensors) {
        const part = values.subarray(tensor.offset, tensor.offset + tensor.size);
        await reader.readRange('parameter', tensor.name, 0, tensor.size, part);
      }
      parameters.set(name, new Parameter(name, shape, values));
    }
    const dataset = openDataset(options.dataDirectory ?? String(manifest.state.dataDirectory));
    const tokenizer = loadTokenizer(dataset.tokenizerPath);
    return new InferenceModel(new Decoder(model, parameters), tokenizer, dataset, data.sequenceLength);
  } finally {
    await reader.close();
  }
}
