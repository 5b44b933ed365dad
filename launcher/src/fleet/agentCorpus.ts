/** The corpus of a run on a host that does not see the coordinator's: the host's own, or one that was brought. */

import { createHash } from 'node:crypto';
import { createReadStream, existsSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { makeDirectories, SluiceError } from '@sluice/core';
import { findPrepared, manifestFiles, openDataset } from '@sluice/data';
import { COLLECTED } from '@sluice/train';

export interface CorpusPlaces {
  /** Where the workers of this agent look for it. */
  readonly collected: string;
  /** Where this host keeps prepared corpora. */
  readonly data: string;
}

/**
 * Shows the workers a corpus of this host.
 * @param corpus hash that names it
 * @returns whether it is there
 */
export function linkCorpus({ collected, data }: CorpusPlaces, corpus: string): boolean {
  const found = findPrepared(data, corpus);
  if (!found) return false;
  const link = join(collected, COLLECTED.corpora, corpus);
  makeDirectories(dirname(link));
  rmSync(link, { recursive: true, force: true });
  symlinkSync(found.directory, link);
  return true;
}

/**
 * Keeps a corpus that was brought whole, for later runs too, and shows it to the workers.
 * @throws SLUICE_E_DATA_DAMAGED when it is not what it was
 */
export async function adoptCorpus(
  places: CorpusPlaces,
  { brought, name, corpus }: { readonly brought: string; readonly name: string; readonly corpus: string },
): Promise<boolean> {
  const folder = join(places.data, brought);
  await verify(folder);
  const named = join(places.data, name);
  // Another corpus of the name may have runs of its own.
  renameSync(folder, existsSync(named) ? `${named}-${corpus.slice(0, 8)}` : named);
  return linkCorpus(places, corpus);
}

/** Reads every byte, as `Dataset.verify` does, but so that the agent's heartbeats go on meanwhile. */
async function verify(folder: string): Promise<void> {
  const dataset = openDataset(folder);
  dataset.close();
  for (const { file, sha256 } of manifestFiles(dataset.manifest)) {
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, file)), hash);
    if (hash.digest('hex') === sha256) continue;
    throw new SluiceError('SLUICE_E_DATA_DAMAGED', `${join(folder, file)} did not come as it was sent.`, {
      details: { path: join(folder, file) },
    });
  }
}
