/** Replicas that train apart, of a model so small that their steps take no time. */

import { beginCheckpoint, commitCheckpoint, openCheckpoint, type ShardRecord } from '@sluice/checkpoint';
import { type RunConfig, SynchronizeConfig, savedTensors } from '@sluice/train';
import { Replicas } from '../../../packages/train/src/synchronize/replicas.ts';
import { topology } from '../../../packages/train/src/topology.ts';
import { soloWorkers, type Workers } from '../../../packages/train/src/workers.ts';
import { counting, tinyRun } from './tinyTrainer.ts';

/**
 * @param settings of `parallel.synchronize`
 * @param model keys that differ
 */
export function replicasRun(settings: object, steps: number, model = {}): RunConfig {
  const config = tinyRun({ model, batch: { sequences: 4 }, lanes: 4 });
  const synchronize = SynchronizeConfig.parse(settings);
  return {
    ...config,
    training: { ...config.training, steps },
    parallel: { ...config.parallel, synchronize },
  };
}

/** @param directory of a checkpoint to go on from */
export async function makeReplicas(
  config: RunConfig,
  workers: Workers = soloWorkers(),
  directory?: string,
): Promise<Replicas> {
  const replicas = new Replicas(config, workers, topology(workers, 1), { train: counting(3) });
  if (directory === undefined) {
    replicas.initialize();
    return replicas;
  }
  const reader = await openCheckpoint(directory);
  try {
    await replicas.load(reader);
  } finally {
    await reader.close();
  }
  return replicas;
}

/** Trains from the step after `from`, and looks after each step, if anybody does. */
export async function trainOn(
  replicas: Replicas,
  [from, to]: readonly [number, number],
  look: (step: number) => Promise<void> = async () => {},
): Promise<void> {
  for (let step = from + 1; step <= to; step++) {
    await replicas.trainStep({ step, learningRate: 0.01 });
    await look(step);
  }
}

/**
 * Saves what workers have.
 * @param write to the directory that it is given
 * @returns that directory
 */
export async function save(
  { run, step, config }: { readonly run: string; readonly step: number; readonly config: RunConfig },
  write: (directory: string) => Promise<{ state: Readonly<Record<string, unknown>>; shards: ShardRecord[] }>,
): Promise<string> {
  const directory = await beginCheckpoint(run, step);
  const { state, shards } = await write(directory);
  const saved = { directory, step, tensors: savedTensors(config, state), shards, state: { worker: state } };
  await commitCheckpoint({ ...saved, config, configHash: 'none', probe: {} });
  return directory;
}
