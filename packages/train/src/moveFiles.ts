/** Moves files from the hosts of some workers to those of others, by what the workers send each other. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openForReading, readFully } from '@sluice/checkpoint';
import { consecutiveRanges, type ElementRange } from '@sluice/collectives';
import { fileError, SluiceError } from '@sluice/core';
import type { Workers } from './workers.ts';

/** A file of one worker's host that goes to another's. */
export interface Transfer {
  /** Ranks. */
  readonly from: number;
  readonly to: number;
  readonly file: string;
  /** Bytes. */
  readonly size: number;
}

/** Of what a worker sends to another at once: it is in memory twice meanwhile, and a shard may be longer than Node reads a file. */
const PART_BYTES = 1 << 26;

/**
 * Moves files between directories of the same name, part by part. All workers call it with the same transfers; one that fails goes on to
 * the end, since the others wait for it.
 * @throws what failed first: SLUICE_E_FILE_MISSING, SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function moveFiles(
  { rank, size, world }: Pick<Workers, 'rank' | 'size' | 'world'>,
  directory: string,
  transfers: readonly Transfer[],
  partBytes = PART_BYTES,
): Promise<void> {
  const parts = new Map<string, Part[]>();
  for (const transfer of transfers) {
    const way = `${transfer.from} to ${transfer.to}`;
    parts.set(way, [...(parts.get(way) ?? []), ...partsOf(transfer, partBytes)]);
  }
  const rounds = Math.max(0, ...[...parts.values()].map(({ length }) => length));
  const peers = Array.from({ length: size }, (_, peer) => peer);
  let failure: unknown;
  const unlessFailed = async (part: Part | undefined, work: (part: Part, path: string) => Promise<void>) => {
    if (part === undefined || failure !== undefined) return;
    await work(part, join(directory, part.file)).catch((error: unknown) => {
      failure = error;
    });
  };
  for (let round = 0; round < rounds; round++) {
    const outgoing = peers.map((peer) => parts.get(`${rank} to ${peer}`)?.[round]);
    const incoming = peers.map((peer) => parts.get(`${peer} to ${rank}`)?.[round]);
    const [sendRanges, receiveRanges] = [outgoing, incoming].map((all) =>
      consecutiveRanges(all.map((part) => (part ? part.end - part.begin : 0))),
    ) as [ElementRange[], ElementRange[]];
    const sent = new Uint8Array(sendRanges.at(-1)!.end);
    const received = new Uint8Array(receiveRanges.at(-1)!.end);
    for (const [peer, { start, end }] of sendRanges.entries()) {
      await unlessFailed(outgoing[peer], ({ begin }, path) =>
        readPart(path, sent.subarray(start, end), begin),
      );
    }
    world.allToAll(sent, sendRanges, received, receiveRanges).wait();
    for (const [peer, { start, end }] of receiveRanges.entries()) {
      await unlessFailed(incoming[peer], ({ begin }, path) =>
        writePart(path, received.subarray(start, end), begin),
      );
    }
  }
  if (failure !== undefined) throw failure;
}

/** Bytes [begin, end) of a file. */
interface Part {
  readonly file: string;
  readonly begin: number;
  readonly end: number;
}

function partsOf({ file, size }: Transfer, partBytes: number): Part[] {
  return Array.from({ length: Math.ceil(size / partBytes) }, (_, i) => ({
    file,
    begin: i * partBytes,
    end: Math.min(size, (i + 1) * partBytes),
  }));
}

async function readPart(path: string, target: Uint8Array, begin: number): Promise<void> {
  const file = await openForReading(path);
  try {
    if (await readFully(file, target, begin)) return;
  } finally {
    await file.close();
  }
  throw new SluiceError('SLUICE_E_FILE_MISSING', `${path} is shorter than it was.`, { details: { path } });
}

/** The parts of a file come in their order. */
async function writePart(path: string, bytes: Uint8Array, begin: number): Promise<void> {
  await writeFile(path, bytes, { flag: begin === 0 ? 'w' : 'a' }).catch((error: unknown) => {
    throw fileError(path, error);
  });
}
