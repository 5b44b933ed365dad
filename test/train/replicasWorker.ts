/** A process that trains replicas with others, from the beginning or from a checkpoint, to its end or to another one. */

import { type HashedPiece, hashPiece, type ShardRecord, writeShard } from '@sluice/checkpoint';
import { Communicator, receiveInvitation } from '@sluice/collectives';
import { selectBackend, setThreads } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import type { Workers } from '../../packages/train/src/workers.ts';
import { makeReplicas, trainOn } from './support/replicasRun.ts';

export interface TrainRequest {
  readonly config: RunConfig;
  /** Workers that train together: the others do the same once more. */
  readonly size: number;
  readonly steps: readonly [number, number];
  /** Directories of checkpoints. */
  readonly from?: string;
  readonly to?: string;
}

export interface TrainAnswer {
  readonly pieces: readonly HashedPiece[];
  readonly state: Readonly<Record<string, unknown>>;
  readonly shard?: ShardRecord;
}

const communicator = await Communicator.connect(await receiveInvitation());
await selectBackend('native');
setThreads(1);

function someOf(size: number): Workers {
  const first = Math.floor(communicator.rank / size) * size;
  const group = (ranks: readonly number[]) => communicator.group(ranks.map((rank) => first + rank));
  const world = group(Array.from({ length: size }, (_, rank) => rank));
  const { blocked } = communicator;
  return { rank: communicator.rank - first, size, blocked, world, group, progress: () => {} };
}

await communicator.serve({
  async train({ config, size, steps, from, to }: TrainRequest): Promise<TrainAnswer> {
    const workers = someOf(size);
    const replicas = await makeReplicas(config, workers, from);
    await trainOn(replicas, steps);
    const state = replicas.state();
    const pieces = replicas.pieces();
    const isFirst = workers.rank === communicator.rank;
    const shard = to !== undefined && isFirst && (await writeShard(to, workers.rank, pieces));
    return { pieces: isFirst ? pieces.map(hashPiece) : [], state, ...(shard && { shard }) };
  },
});
await communicator.close();
