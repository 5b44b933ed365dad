/**
 * Copies in the hosts' memory that outlive their coordinator. It leaves a record of each with a few of the hosts, from which a
 * new coordinator learns what they are copies of; which shards are there it sees for itself.
 */

import { readManifestText } from '@sluice/checkpoint';
import { diffConfigs, SluiceError, sha256 } from '@sluice/core';
import type { Host } from '../fleet/host.ts';
import type { JournalEntry, JournalKind } from '../run/journal.ts';
import { resumeRule } from '../run/resumeRules.ts';
import type { MemoryCopies } from './memoryCopies.ts';
import { CoordinatorState } from './state.ts';

/** What a new coordinator must know of copies. */
interface CopiesRecord {
  /** Id of the run. */
  readonly run: string;
  /** Entries that its journal had when they were made. */
  readonly journalLength: number;
  readonly manifest: string;
}

/** Hosts that are left a record: it may be large, and one of them is enough. */
const RECORD_HOSTS = 3;

const RECORD_NAME = 'record.json';

/**
 * Leaves a record of copies with the last of the hosts; the first is the one that is most likely lost with the coordinator. A
 * host that does not take it does no harm.
 */
export async function leaveRecord(
  { step, manifest }: MemoryCopies,
  of: Omit<CopiesRecord, 'manifest'>,
  hosts: readonly Host[],
): Promise<void> {
  const body = JSON.stringify({ ...of, manifest } satisfies CopiesRecord);
  const text = Buffer.from(`${sha256(body)}\n${body}`);
  const left = hosts.slice(-RECORD_HOSTS).flatMap(({ files }) => files ?? []);
  await Promise.all(
    left.map((files) => orNothing(files.write('memory', `step-${step}/${RECORD_NAME}`, text))),
  );
}

/** What copies must be of to be gone on from. */
export interface Wanted {
  readonly run: string;
  readonly journal: readonly JournalEntry[];
  /** Configuration as it is now, as the run's files have it. */
  readonly config: unknown;
  readonly datasetHash: string;
  /** Step of the newest checkpoint, 0 where there is none: copies are of a later one. */
  readonly after: number;
  /** Last step that is to be taken. */
  readonly upTo: number;
}

/**
 * The newest copies that all shards are left of, and that the run goes on from as if nothing had happened.
 * @param log told why newer ones are not gone on from, where that can be helped
 */
export async function recallCopies(
  hosts: readonly Host[],
  wanted: Wanted,
  log: (line: string) => void,
): Promise<MemoryCopies | undefined> {
  const there = await Promise.all(hosts.map(filesOf));
  const steps = [...new Set(there.flatMap(({ steps }) => steps))]
    .filter((step) => step > wanted.after && step <= wanted.upTo)
    .sort((a, b) => b - a);
  for (const step of steps) {
    const record = await readRecord(there, step);
    if (record?.run !== wanted.run) continue;
    if (record.journalLength < lastTurn(wanted.journal)) continue;
    const copies = copiesOf(record, step, there);
    if (copies === undefined) continue;
    const { config, state } = readManifestText(record.manifest);
    const others = diffConfigs(config, wanted.config).filter(({ key }) => resumeRule(key) !== 'free');
    if (others.length === 0 && state.datasetHash === wanted.datasetHash) return copies;
    const keys = others.map(({ key }) => key).join(', ');
    log(
      `the hosts have copies of step ${step}, but ${keys || 'the corpus'} has changed since: they are left alone`,
    );
  }
  return undefined;
}

interface Memory {
  readonly host: Host;
  /** Sizes by path. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Steps that it has a record of. */
  readonly steps: readonly number[];
}

async function filesOf(host: Host): Promise<Memory> {
  const list = (host.files && (await orNothing(host.files.list('memory')))) ?? [];
  const steps = list.flatMap(({ path }) => RECORD_PATH.exec(path)?.[1] ?? []).map(Number);
  return { host, sizes: new Map(list.map(({ path, size }) => [path, size])), steps };
}

const RECORD_PATH = /^step-(\d+)\/record\.json$/;

async function readRecord(there: readonly Memory[], step: number): Promise<CopiesRecord | undefined> {
  const path = `step-${step}/${RECORD_NAME}`;
  for (const { host, sizes } of there) {
    const size = sizes.get(path);
    if (size === undefined) continue;
    const record = decode(await orNothing(host.files!.read('memory', { path, size })));
    if (record !== undefined) return record;
  }
  return undefined;
}

/** @returns undefined for one that was not written to its end */
function decode(bytes: Buffer | undefined): CopiesRecord | undefined {
  const [hash, body = ''] = bytes?.toString().split('\n', 2) ?? [];
  return hash === sha256(body) ? (JSON.parse(body) as CopiesRecord) : undefined;
}

/** The copies of a record; undefined where a shard is on no host any more. */
function copiesOf(
  { manifest }: CopiesRecord,
  step: number,
  there: readonly Memory[],
): MemoryCopies | undefined {
  const { shards, state } = readManifestText(manifest);
  const holders = shards.map(({ file, size }) =>
    there.filter(({ sizes }) => sizes.get(`step-${step}/${file}`) === size).map(({ host }) => host),
  );
  if (holders.some((those) => those.length === 0)) return undefined;
  return { step, state: CoordinatorState.parse(state.coordinator), manifest, holders };
}

/** What may follow copies in the journal without that they become those of a past that was given up. */
const HARMLESS: ReadonlySet<JournalKind> = new Set([
  'resize',
  'regroup',
  'save',
  'staged',
  'saveFailed',
  'commit',
  'evaluate',
  'nonFinite',
  'straggler',
  'stall',
  'spike',
  'recheck',
]);

/** How many entries the journal had when the run took a turn last, from which on copies of before are not its own any more. */
function lastTurn(journal: readonly JournalEntry[]): number {
  const isTurn = (entry: JournalEntry) =>
    !HARMLESS.has(entry.kind) && !('fromMemory' in entry && entry.fromMemory);
  return journal.findLastIndex(isTurn) + 1;
}

/** A host that fails in this is as one that has nothing. */
async function orNothing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof SluiceError) return undefined;
    throw error;
  }
}
