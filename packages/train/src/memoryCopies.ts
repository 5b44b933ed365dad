/**
 * Copies of a run's state in the memory of its hosts: what each worker owns (weights and moments, 12 bytes a parameter) lies as a
 * shard on its own host and on another, so that what dies with one host is found on the next. They are a checkpoint's shards in a
 * file system of memory, which outlives the workers, and are loaded as one.
 */

import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  MANIFEST_NAME,
  type Piece,
  readManifestText,
  type ShardRecord,
  writeShard,
} from '@sluice/checkpoint';
import { sharedFloat64 } from '@sluice/collectives';
import { makeDirectories, nodeFiles, processSpace, SluiceError } from '@sluice/core';
import { moveFiles } from './moveFiles.ts';
import type { CopyRequest, MemoryRequest } from './protocol.ts';
import type { Workers } from './workers.ts';

/** A file system in memory, where there is one. */
function memoryRoot(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
}

/** Nothing in memory can be forced to a disk. */
const memoryFiles = {
  ...nodeFiles,
  async create(path: string) {
    const file = await nodeFiles.create(path);
    return {
      write: (bytes: Uint8Array, position: number) => file.write(bytes, position),
      sync: async () => {},
      close: () => file.close(),
    };
  },
  syncDirectory: async () => {},
};

/** Where the workers that a process has started keep copies; it is that process that removes them. */
export function memoryOf(starter: number): string {
  return join(memoryRoot(), `sluice-memory-${processSpace()}-${starter}`);
}

function ownDirectory(step: number): string {
  return join(memoryOf(process.ppid), `step-${step}`);
}

/**
 * Puts what this worker owns into its host's memory, and what others own that is to be kept here too. All workers call it
 * together, and all fail when one cannot.
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING
 */
export async function keepCopies(
  workers: Workers,
  pieces: readonly Piece[],
  { step, copies, writer }: CopyRequest,
): Promise<ShardRecord> {
  const { rank, size, world } = workers;
  const directory = ownDirectory(step);
  const written = await writeOwn(directory, rank, pieces, writer).catch((error: unknown) => error as Error);
  // Every worker learns how much comes from whom, and whether all have written.
  const sizes = sharedFloat64(size);
  sizes[rank] = written instanceof Error ? Number.NaN : written.size;
  if (size > 1) world.allReduce(sizes).wait();
  if (written instanceof Error) throw written;
  if (sizes.includes(Number.NaN)) throw peerFailed(directory);
  const transfers = copies.flatMap((to, from) =>
    to < 0 ? [] : [{ from, to, file: shardName(from, writer), size: sizes[from]! }],
  );
  await moveFiles(workers, directory, transfers);
  await forgetOthers(step);
  return written;
}

/**
 * Moves copies to the hosts that lack them, so that each has all of them as a checkpoint in its memory.
 * @returns the directory of that checkpoint
 */
export async function gatherCopies(
  workers: Workers,
  { step, manifest, moves }: MemoryRequest,
): Promise<string> {
  const { size, world } = workers;
  const directory = ownDirectory(step);
  const { shards } = readManifestText(manifest);
  await mkdir(directory, { recursive: true });
  await moveFiles(
    workers,
    directory,
    moves.map(({ from, to, shard }) => ({ from, to, ...shards[shard]! })),
  );
  if (process.env.LOCAL_RANK === '0') await writeFile(join(directory, MANIFEST_NAME), manifest);
  // The workers of a host read what its first has written.
  if (size > 1) world.barrier().wait();
  return directory;
}

async function writeOwn(
  directory: string,
  rank: number,
  pieces: readonly Piece[],
  writer: string,
): Promise<ShardRecord> {
  makeDirectories(directory);
  return writeShard(directory, rank, pieces, { writer, files: memoryFiles });
}

/** The copies before are kept until these are known to be whole; those of a later step are of a time before the run went back. */
async function forgetOthers(step: number): Promise<void> {
  const parent = join(ownDirectory(step), '..');
  const steps = (await readdir(parent)).flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  const newest = Math.max(...steps.filter((other) => other < step), -1);
  for (const other of steps) {
    if (other < newest || other > step) await rm(ownDirectory(other), { recursive: true, force: true });
  }
}

function shardName(rank: number, writer: string): string {
  return `shard-${String(rank).padStart(5, '0')}.${writer}.safetensors`;
}

function peerFailed(directory: string): SluiceError {
  return new SluiceError(
    'SLUICE_E_DISK_FULL',
    'Another worker has no room in memory for a copy of its state.',
    {
      details: { directory },
    },
  );
}
