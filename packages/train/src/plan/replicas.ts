/** Replicas that train apart (`parallel.synchronize`), as a plan has them: runs of their own, that are brought together now and then. */

import type { RunConfig } from '../config.ts';
import type { SynchronizeConfig } from '../synchronize/config.ts';
import { replicaConfig } from '../synchronize/layout.ts';
import { dealParts } from '../synchronize/parts.ts';
import { encodedBytes } from '../synchronize/quantize.ts';

export interface ReplicasPlan {
  /** A replica as a run of its own workers. */
  readonly replica: RunConfig;
  /** That one worker trains, one after the other. */
  readonly perWorker: number;
  /** Workers that own the same parts of the replicas, and bring these together. */
  readonly counterparts: number;
  readonly settings: SynchronizeConfig;
  /** Shares of the model that are brought together at different steps. */
  readonly parts: readonly number[];
}

/** Undefined where all workers train one model. */
export function replicasPlan(config: RunConfig): ReplicasPlan | undefined {
  const { synchronize: settings, ...parallel } = config.parallel;
  if (!settings) return undefined;
  const { replicas } = settings;
  const workers = Math.max(1, parallel.workers / replicas);
  const replica = replicaConfig({ ...config, parallel }, replicas);
  const { sizes } = dealParts(config.model, settings.parts);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  return {
    replica: {
      ...replica,
      parallel: {
        ...replica.parallel,
        workers,
        expertParallel: Math.min(parallel.expertParallel, workers),
      },
    },
    perWorker: Math.max(1, replicas / parallel.workers),
    counterparts: parallel.workers / workers,
    settings,
    parts: sizes.map((size) => size / all),
  };
}

/** Of so many values of an outer gradient on their way. */
export function outerGradientBytes({ outerGradients }: SynchronizeConfig, values: number): number {
  return outerGradients === 'int8' ? encodedBytes(values) : 4 * values;
}
