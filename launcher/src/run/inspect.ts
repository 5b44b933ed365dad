/** What is in a run directory: checkpoints, decisions, spikes. */

import { listCheckpoints, verifyEntry } from '@sluice/checkpoint';
import {
  formatLoss,
  lastMetrics,
  type SupersededSteps,
  supersededSteps,
  terminalTable,
} from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { checkpointHistory } from './checkpointHistory.ts';
import { describeFirstMove, spanText } from './episodeText.ts';
import { failingSave } from './failedSaves.ts';
import { type JournalEntry, readJournal } from './journal.ts';
import { lockOwner } from './lock.ts';
import { givenUpSteps, rollbacksOf } from './rollbacks.ts';
import { existingRun, type RunDirectory } from './runDirectory.ts';
import {
  decisionText,
  type HandledEpisode,
  heightText,
  leftOutText,
  rateText,
  recheckText,
  spikeHistory,
} from './spikeHistory.ts';

/** Entries of the journal that are shown to people; JSON has all. */
const SHOWN_ENTRIES = 20;
/** The same of spikes. */
const SHOWN_SPIKES = 40;

/** @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_JOURNAL_DAMAGED */
export async function inspectRun(path: string): Promise<CommandResult> {
  const run = existingRun(path);
  const journal = readJournal(run.journal);
  const checkpoints = await describeCheckpoints(run, journal);
  const superseded = supersededSteps(run.path);
  const spikes = spikeHistory(journal);
  const rollbacks = givenUpSteps(journal);
  const rechecks = journal.filter((entry) => entry.kind === 'recheck');
  const owner = lockOwner(run.lock);
  const last = lastMetrics(run.metrics);
  const inUse = owner?.alive === true;
  const failing = failingSave(journal);
  const lines = [
    `run ${run.path}${inUse ? `, in use by process ${owner.pid} on ${owner.host}` : ''}`,
    last ? `last step ${last.step}, loss ${formatLoss(last.loss)}` : 'no step yet',
    ...(failing ? [`saves fail: step ${failing.step}: ${failing.message}`] : []),
    '',
    'checkpoints',
    ...(checkpoints.length === 0 ? ['  none'] : checkpoints.map(checkpointLine)),
    '',
    ...(superseded.length === 0 ? [] : ['superseded steps', ...superseded.map(supersededLine), '']),
    `journal${journal.length > SHOWN_ENTRIES ? ` (last ${SHOWN_ENTRIES} of ${journal.length})` : ''}`,
    ...journal.slice(-SHOWN_ENTRIES).map(journalLine),
    '',
    `spikes${spikes.length > SHOWN_SPIKES ? ` (last ${SHOWN_SPIKES} of ${spikes.length})` : ''}`,
    ...(spikes.length === 0 ? ['  none'] : spikeLines(spikes.slice(-SHOWN_SPIKES))),
    ...(rollbacks.length === 0 ? [] : ['', 'went back', ...rollbacks.map(rollbackLine)]),
    ...(rechecks.length === 0
      ? []
      : ['', 'computed again', ...rechecks.map((entry) => `  ${recheckText(entry)}`)]),
  ];
  return {
    text: lines.join('\n'),
    json: {
      ...{
        runDir: run.path,
        step: last?.step ?? 0,
        inUse,
        checkpoints,
        superseded,
        journal,
        failingSave: failing ?? null,
      },
      spikes: spikes.map(({ rollback, ...episode }) => ({
        ...episode,
        decision: decisionText({ ...episode, rollback }),
        rollback: rollback?.decision ?? null,
      })),
      rollbacks: rollbacks.map(({ entry: { time, decision, leftOut } }) => ({
        ...{ time, ...decision, leftOut },
        isInForce: rollbacksOf(journal).includes(decision),
      })),
      rechecks,
    },
  };
}

function spikeLines(spikes: readonly HandledEpisode[]): string[] {
  const rows = spikes.map((spike) => [
    spanText(spike.start, spike.end),
    heightText(spike),
    describeFirstMove(spike.first, spike.start),
    decisionText(spike),
  ]);
  const header = ['steps', 'height', 'moved first', 'decision'];
  const table = terminalTable(rows, { header, align: ['left', 'left', 'left', 'left'] });
  return table.split('\n').map((line) => `  ${line}`);
}

function rollbackLine({ entry }: ReturnType<typeof givenUpSteps>[number]): string {
  const { step, root, to } = entry.decision;
  const rate = rateText(entry);
  const parts = [
    `from step ${step} to step ${to}, since a spike began at step ${root}`,
    `samples left out ${leftOutText(entry)}`,
    ...(rate === '' ? [] : [`learning rate ${rate}`]),
  ];
  return `  ${parts.join('; ')}`;
}

interface CheckpointDescription {
  readonly step: number;
  readonly path: string;
  readonly valid: boolean;
  readonly problems: readonly string[];
  /** Why `resume` passes it over though its files are those that were saved. */
  readonly distrust: string | null;
  readonly weights: string | null;
}

async function describeCheckpoints(
  run: RunDirectory,
  journal: readonly JournalEntry[],
): Promise<CheckpointDescription[]> {
  const { distrust } = checkpointHistory(journal);
  const described: CheckpointDescription[] = [];
  for (const entry of await listCheckpoints(run.path)) {
    const { step, directory } = entry;
    const { valid, problems, manifest } = await verifyEntry(entry, { deep: true });
    described.push({
      step,
      path: directory,
      valid,
      problems: problems.map((problem) => problem.message),
      distrust: distrust.get(step) ?? null,
      weights: manifest?.hashes.weights ?? null,
    });
  }
  return described;
}

function checkpointLine({ step, valid, problems, distrust, weights, path }: CheckpointDescription): string {
  const intact = distrust === null ? 'valid' : `not gone on from: ${distrust}`;
  const state = valid ? `${intact}, weights ${weights}` : `not valid: ${problems.join('; ')}`;
  return `  step ${step}: ${state} (${path})`;
}

function supersededLine({ file, first, last }: SupersededSteps): string {
  return `  steps ${first} to ${last}: ${file}`;
}

function journalLine({ time, kind, step, ...fields }: JournalEntry): string {
  return `  ${time}  step ${step}  ${kind}  ${JSON.stringify(fields)}`;
}
