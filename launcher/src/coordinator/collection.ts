/**
 * Hosts that do not see the run's directory nor the corpora of this machine: what their workers need is brought to them, and
 * what they save is fetched, through their agents.
 */

import { readdir } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { type ShardRecord, verifyShard } from '@sluice/checkpoint';
import { SluiceError } from '@sluice/core';
import type { PrepareSummary } from '@sluice/data';
import { COLLECTED } from '@sluice/train';
import type { Host } from '../fleet/host.ts';
import type { HostFiles } from '../fleet/hostFiles.ts';
import type { Placement } from '../fleet/placement.ts';
import type { FilePlace } from '../fleet/protocol.ts';

export interface CollectionOptions {
  /** Id of the run. */
  readonly run: string;
  /** Where the workers are. */
  readonly placements: readonly Placement[];
  /** Tells people what takes its time. */
  readonly tell: (line: string) => void;
  /** Whether the run is to stop. */
  readonly isStopped: () => boolean;
}

/** What workers begin with, or go back to. */
export interface Provisions {
  readonly corpora?: readonly PrepareSummary[];
  readonly checkpoint?: string | undefined;
  /** Those that a new run begins with. */
  readonly weights?: string | undefined;
}

type Remote = Host & { readonly files: HostFiles };

/** All of it throws SLUICE_E_WORKER_LOST when a host is lost. */
export class Collection {
  readonly #options: CollectionOptions;
  readonly #hosts: readonly Remote[];

  constructor(options: CollectionOptions) {
    this.#options = options;
    this.#hosts = options.placements.flatMap(({ host }) => (isRemote(host) ? [host] : []));
  }

  /** Brings what the workers are to read to all hosts, whole. @throws SLUICE_E_INTERRUPTED; SLUICE_E_DATA_DAMAGED */
  async bring({ corpora = [], checkpoint, weights }: Provisions): Promise<void> {
    await this.#onAll(async (host) => {
      for (const corpus of corpora) await this.#bringCorpus(host, corpus);
      if (checkpoint) await this.#sendFolder(host, checkpoint, 'collected', COLLECTED.checkpoint);
      if (weights) await this.#sendFolder(host, weights, 'collected', COLLECTED.weights);
    });
  }

  /** Takes away again what was read once. */
  async clear(...names: readonly (keyof typeof COLLECTED)[]): Promise<void> {
    await this.#onAll(async ({ files }) => {
      for (const name of names) await files.remove('collected', COLLECTED[name]);
    });
  }

  /**
   * Fetches the shards of a save, which are on this machine's disk, and what their workers wrote, when it resolves.
   * @param directory of the checkpoint, which was made
   * @param shards in order of ranks
   * @throws SLUICE_E_WORKER_FAILED for one that is not what was written; SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
   */
  async fetch(directory: string, shards: readonly ShardRecord[]): Promise<void> {
    await Promise.all(
      this.#options.placements.map(async ({ host, ranks }) => {
        for (const rank of ranks) await fetchShard(host, directory, rank, shards[rank]!);
      }),
    );
    await this.clear('save');
  }

  async #bringCorpus(host: Remote, { directory, manifestHash }: PrepareSummary): Promise<void> {
    if (await host.files.linkCorpus(manifestHash)) return;
    const name = basename(directory);
    this.#options.tell(`bringing the corpus ${name} to ${host.name}, which does not have it`);
    // Two runs may bring it at once; what is left of an attempt goes with the next one.
    const brought = `.brought-${manifestHash.slice(0, 12)}-${this.#options.run}`;
    try {
      await this.#sendFolder(host, directory, 'data', brought);
      await host.files.adoptCorpus(manifestHash, brought, name);
    } catch (error) {
      await host.files.remove('data', brought).catch(() => {});
      throw error;
    }
  }

  async #sendFolder({ files }: Remote, folder: string, place: FilePlace, to: string): Promise<void> {
    await files.remove(place, to);
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    for (const entry of entries.filter((one) => one.isFile())) {
      const path = join(entry.parentPath, entry.name);
      await files.send(path, place, join(to, relative(folder, path)), () => this.#assertWanted());
    }
  }

  #assertWanted(): void {
    if (!this.#options.isStopped()) return;
    throw new SluiceError(
      'SLUICE_E_INTERRUPTED',
      'Asked to stop before the hosts had been brought what they need.',
    );
  }

  async #onAll(work: (host: Remote) => Promise<void>): Promise<void> {
    await Promise.all(this.#hosts.map(work));
  }
}

async function fetchShard(host: Host, directory: string, rank: number, shard: ShardRecord): Promise<void> {
  const path = join(COLLECTED.save, shard.file);
  await host.files?.fetch('collected', { path, size: shard.size }, join(directory, shard.file));
  const [problem] = await verifyShard(directory, shard, true);
  if (problem === undefined) return;
  throw new SluiceError(
    'SLUICE_E_WORKER_FAILED',
    `The shard of worker ${rank} is not what it wrote when it comes from ${host.name}: ${problem.message}.`,
    { details: { rank, host: host.name, file: shard.file } },
  );
}

function isRemote(host: Host): host is Remote {
  return host.files !== undefined;
}
