/** The way back of a run to a state before a spike: in the workers' memory, in a checkpoint, or its beginning. */

import { supersedeAfter } from '@sluice/observe';
import {
  HELD_SNAPSHOTS,
  type Rollback,
  type RunConfig,
  SpikeDetector,
  snapshotInterval,
} from '@sluice/train';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { readJournal } from '../run/journal.ts';
import { type RunDirectory, refuseVanished } from '../run/runDirectory.ts';
import { pathFromRun } from '../run/runPaths.ts';
import { newestCheckpoint, whenWritable } from './afterFault.ts';
import type { CommittedCheckpoint } from './checkpoints.ts';
import type { Collection } from './collection.ts';
import { type CoordinatorState, initialState } from './state.ts';
import type { AfterStep, Restored } from './trainingRun.ts';
import { isDue } from './trainRun.ts';
import type { Session, Start, Underway } from './underway.ts';
import type { Workers } from './workers.ts';

/** The coordinator's part of the states that the workers hold in memory, oldest first. */
export class HeldStates {
  #states: CoordinatorState[] = [];

  add(state: CoordinatorState): void {
    this.#states = [...this.#states, structuredClone(state)].slice(-HELD_SNAPSHOTS);
  }

  /** The state after a step, where it is held. Later ones are of a future that is given up. */
  backTo(step: number): CoordinatorState | undefined {
    this.#states = this.#states.filter((state) => state.step <= step);
    return this.#states.find((state) => state.step === step);
  }
}

/** Has the workers hold states in memory, as often as the configuration wants. */
export function snapshotsAfterStep(config: RunConfig, state: CoordinatorState, held: HeldStates): AfterStep {
  const everySteps = snapshotInterval(config);
  return async ({ workers }) => {
    if (!isDue(everySteps, state.step)) return;
    await workers.call('snapshot', { step: state.step });
    held.add(state);
  };
}

/** Who goes back, and what there is to go back to. */
export interface WayBack {
  readonly workers: Workers;
  readonly held: HeldStates;
  /** Brings a checkpoint, where the workers' hosts do not see the run's directory. */
  readonly collection: Pick<Collection, 'bring' | 'clear'> | undefined;
}

/** Takes workers and logs back. The decision is in the journal by now, and with it what checkpoints are worth. */
export async function goBackTo(
  { to }: Rollback,
  { workers, held, collection }: WayBack,
  { run, config }: Session,
  underway: Underway,
): Promise<Restored> {
  // What other hosts keep copies of is given up.
  underway.copies = undefined;
  const inMemory = held.backTo(to);
  const { state, checkpoint } = await whenWritable(underway, async () => {
    refuseVanished(run);
    return inMemory ? { state: inMemory, checkpoint: newestCommit(run) } : await beforeRollback(run, config);
  });
  underway.latest = checkpoint;
  if (inMemory) await workers.call('restore', { snapshot: to });
  else await restoreCheckpoint(checkpoint, { workers, collection });
  held.backTo(state.step);
  const supersede = () => supersedeAfter(run.path, state.step);
  await whenWritable(underway, () => underway.recorder.goBack(state.step, supersede));
  return { state, savedStep: checkpoint?.step ?? -1 };
}

/** The newest checkpoint before a rollback that the journal has; the run's beginning where there is none. */
async function beforeRollback(run: RunDirectory, { spikes }: RunConfig): Promise<Start> {
  const beginning = { state: initialState(new SpikeDetector(spikes).state()) };
  return (await newestCheckpoint(run)) ?? beginning;
}

async function restoreCheckpoint(
  checkpoint: CommittedCheckpoint | undefined,
  { workers, collection }: Omit<WayBack, 'held'>,
): Promise<void> {
  if (!checkpoint) {
    await workers.call('restore', {});
    return;
  }
  const { path } = checkpoint;
  await collection?.bring({ checkpoint: path });
  await workers.call('restore', { checkpoint: path, isBrought: collection !== undefined });
  await collection?.clear('checkpoint');
}

/** The newest checkpoint that the run still rests on, as its journal has it: it is not to be read now. */
function newestCommit({ path, journal }: RunDirectory): CommittedCheckpoint | undefined {
  const entries = readJournal(journal);
  const { committed } = checkpointHistory(entries);
  const step = Math.max(-1, ...committed);
  const commit = entries.findLast((entry) => entry.kind === 'commit' && entry.step === step);
  if (commit?.kind !== 'commit') return undefined;
  return { path: pathFromRun(path, commit.path), step, weights: commit.weights };
}
