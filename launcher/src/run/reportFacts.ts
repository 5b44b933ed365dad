/** What a run's journal and checkpoints tell its report and its live page. */

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { listCheckpoints, verifyEntry } from '@sluice/checkpoint';
import type { ReportCheckpoint, ReportFacts } from '@sluice/observe';
import { checkpointHistory } from './checkpointHistory.ts';
import type { JournalEntry } from './journal.ts';
import { givenUpSteps } from './rollbacks.ts';
import { recheckText, reportSpikes, spikeHistory } from './spikeHistory.ts';
import { storyOf } from './story.ts';

/** Checkpoints as they were described last, by their directories: reading a manifest takes a while. */
export type KnownCheckpoints = Map<
  string,
  { readonly key: string; readonly described: ReportCheckpoint | undefined }
>;

/**
 * The checkpoints that are there, oldest first.
 * @param known where they are described again and again; only files that are others than before are read
 */
export async function describeCheckpoints(
  runPath: string,
  journal: readonly JournalEntry[],
  known: KnownCheckpoints = new Map(),
): Promise<ReportCheckpoint[]> {
  const { distrust } = checkpointHistory(journal);
  const described: ReportCheckpoint[] = [];
  for (const entry of await listCheckpoints(runPath)) {
    const { step, directory } = entry;
    const key = filesIn(directory);
    let one = known.get(directory);
    if (one?.key !== key) {
      one = { key, described: await describeCheckpoint(entry) };
      known.set(directory, one);
    }
    if (one.described === undefined) continue;
    const note = one.described.note ?? (distrust.has(step) ? 'not gone on from' : undefined);
    described.push({ ...one.described, ...(note && { note }) });
  }
  return described;
}

type CheckpointEntry = Awaited<ReturnType<typeof listCheckpoints>>[number];

async function describeCheckpoint(entry: CheckpointEntry): Promise<ReportCheckpoint | undefined> {
  const { step, directory } = entry;
  const { valid, manifest } = await verifyEntry(entry, { deep: false });
  if (!manifest) return undefined;
  const bytes = manifest.shards.reduce((sum, { size }) => sum + size, 0);
  return { step, directory, weights: manifest.hashes.weights, bytes, ...(!valid && { note: 'damaged' }) };
}

/** What tells a directory's files from what they will be when one of them has changed. */
function filesIn(directory: string): string {
  try {
    return readdirSync(directory)
      .map((name) => {
        const { ino, size, mtimeMs } = statSync(join(directory, name));
        return `${name}:${ino}:${size}:${mtimeMs}`;
      })
      .join();
  } catch {
    // It is being removed.
    return '';
  }
}

/** Spikes, ways back, and all else that was decided. */
export function journalFacts(
  journal: readonly JournalEntry[],
): Pick<ReportFacts, 'spikes' | 'rollbacks' | 'notices' | 'story'> {
  return {
    spikes: reportSpikes(spikeHistory(journal)),
    rollbacks: givenUpSteps(journal).map(({ entry: { decision } }) => ({
      from: decision.step,
      to: decision.to,
    })),
    notices: journal.flatMap((entry) => (entry.kind === 'recheck' ? [recheckText(entry)] : [])),
    story: storyOf(journal),
  };
}
