/**
 * What is on a host that does not see the run's directory: its workers' shards on their way to the coordinator, and what was
 * brought to them. It lies in a folder of the process that has started the workers, which removes it.
 */

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processSpace } from '@sluice/core';
import type { InitializeRequest } from './protocol.ts';

/** Names within the folder. */
export const COLLECTED = {
  save: 'save',
  checkpoint: 'checkpoint',
  corpora: 'corpora',
  weights: 'weights',
} as const;

/** The folder of a process that starts workers. */
export function collectedBy(starter: number): string {
  return join(tmpdir(), `sluice-collected-${processSpace()}-${starter}`);
}

/** Where this worker leaves its shard. */
export function collectedSave(): string {
  return join(collectedBy(process.ppid), COLLECTED.save);
}

/** Where a checkpoint is that was brought to this worker's host. */
export function broughtCheckpoint(): string {
  return join(collectedBy(process.ppid), COLLECTED.checkpoint);
}

/** A request with the paths of what was brought to this worker's host in place of the coordinator's own. */
export function broughtHere(request: InitializeRequest): InitializeRequest {
  const folder = collectedBy(process.ppid);
  const { config, checkpoint, brought = [] } = request;
  const { initialize } = config;
  return {
    ...request,
    dataDirectories: brought.map((corpus) => join(folder, COLLECTED.corpora, corpus)),
    ...(checkpoint !== undefined && { checkpoint: broughtCheckpoint() }),
    ...(initialize.from !== undefined && {
      config: { ...config, initialize: { ...initialize, from: join(folder, COLLECTED.weights) } },
    }),
  };
}
