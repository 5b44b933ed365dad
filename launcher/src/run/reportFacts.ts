/** What a run's journal and checkpoints tell its report and its live page. */

import { listCheckpoints, verifyEntry } from '@sluice/checkpoint';
import type { ReportCheckpoint, ReportFacts } from '@sluice/observe';
import { checkpointHistory } from './checkpointHistory.ts';
import type { JournalEntry } from './journal.ts';
import { givenUpSteps } from './rollbacks.ts';
import { recheckText, reportSpikes, spikeHistory } from './spikeHistory.ts';
import { storyOf } from './story.ts';

/** The checkpoints that are there, oldest first. */
export async function describeCheckpoints(
  runPath: string,
  journal: readonly JournalEntry[],
): Promise<ReportCheckpoint[]> {
  const { distrust } = checkpointHistory(journal);
  const described: ReportCheckpoint[] = [];
  for (const entry of await listCheckpoints(runPath)) {
    const { step, directory } = entry;
    const { valid, manifest } = await verifyEntry(entry, { deep: false });
    if (!manifest) continue;
    const bytes = manifest.shards.reduce((sum, { size }) => sum + size, 0);
    const note = !valid ? 'damaged' : distrust.has(step) ? 'not gone on from' : undefined;
    described.push({ step, directory, weights: manifest.hashes.weights, bytes, ...(note && { note }) });
  }
  return described;
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
