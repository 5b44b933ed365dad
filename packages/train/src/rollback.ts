/**
 * What follows from a spike that does not end by itself: back to a state before it began, its samples left out for good.
 * Everything here is a function of the configuration and of values that all workers agree on, and of nothing that a crash can
 * lose: a run that is resumed from an earlier state comes to the same decisions.
 */

import { type BatchSettings, samplesBefore } from './batchSizes.ts';
import type { RunConfig } from './config.ts';

type SpikeSettings = Pick<RunConfig, 'spikes' | 'checkpoint'>;

/** A decision to go back. It holds from the step after `to` on. */
export interface Rollback {
  /** The step after which it was decided. */
  readonly step: number;
  /** The step at which the spike began. */
  readonly root: number;
  /** The step after whose update the run goes on; 0: its beginning. */
  readonly to: number;
  /** 1, or one more than that of the rollback that this one follows closely. */
  readonly level: number;
  /** Index, in the order of the data, of the first sample of the step after `to`. */
  readonly nextSample: number;
  /** Factor of the learning rate until `rateUntil`, that step included. */
  readonly rateFactor: number;
  readonly rateUntil: number;
}

/** A spike that has gone on for longer than updates are left out. */
export interface LastingSpike {
  readonly step: number;
  readonly root: number;
}

/** Where the configuration gives none. */
export const DEFAULT_SNAPSHOT_INTERVAL = 25;

/** Steps between the states that a run may go back to; 0 where there is only its beginning. */
export function stateInterval({ spikes, checkpoint }: SpikeSettings): number {
  const { snapshotEverySteps = DEFAULT_SNAPSHOT_INTERVAL } = spikes;
  return snapshotEverySteps || checkpoint.everySteps;
}

/** Steps between the states that workers keep in memory; 0 for none. */
export function snapshotInterval({ spikes }: Pick<RunConfig, 'spikes'>): number {
  return spikes.policy === 'rollback' ? (spikes.snapshotEverySteps ?? DEFAULT_SNAPSHOT_INTERVAL) : 0;
}

/** How many states workers keep in memory: a spike may have begun shortly before the newest. */
export const HELD_SNAPSHOTS = 2;

/**
 * Decides where to go back to: the newest state before the spike's root; where that follows a rollback closely, further back
 * than that one by as many intervals as there were rollbacks in a row.
 * @param earlier decisions that the run rests on, oldest first
 * @param samples index of the first sample of a step, as the decisions so far have it
 * @returns undefined where the run has gone back as often as it may
 */
export function decideRollback(
  config: SpikeSettings,
  { step, root }: LastingSpike,
  earlier: readonly Rollback[],
  samples: (step: number) => number,
): Rollback | undefined {
  const { maxRollbacks, rateFactor, rateSteps, window } = config.spikes;
  const last = earlier.at(-1);
  const follows = last !== undefined && step <= last.step + window;
  const level = follows ? last.level + 1 : 1;
  if (level > maxRollbacks) return undefined;
  const interval = stateInterval(config);
  const newest = interval === 0 ? 0 : Math.floor((root - 1) / interval) * interval;
  const to = follows ? Math.max(0, Math.min(newest, last.to - (level - 1) * interval)) : newest;
  return {
    ...{ step, root, to, level, nextSample: samples(step + 1) },
    rateFactor: rateFactor ** level,
    rateUntil: rateFactor < 1 ? to + rateSteps : to,
  };
}

/** The earliest step that a spike after `step` can lead back to, as far as its root is no longer ago than the detector looks. */
export function earliestRollback(config: SpikeSettings, step: number): number {
  const { maxRollbacks, window } = config.spikes;
  const intervals = 1 + (maxRollbacks * (maxRollbacks - 1)) / 2;
  return Math.max(0, step - window - intervals * stateInterval(config));
}

/** The decisions that a run rests on after another one: those that it goes back to before are no more. */
export function withRollback(earlier: readonly Rollback[], next: Rollback): Rollback[] {
  return [...earlier.filter(({ to }) => to < next.to), next];
}

/** The decision that holds at a step. */
export function rollbackAt(rollbacks: readonly Rollback[], step: number): Rollback | undefined {
  return rollbacks.findLast(({ to }) => to < step);
}

/** Factor of the scheduled learning rate at a step. */
export function rateFactorAt(rollbacks: readonly Rollback[], step: number): number {
  const last = rollbackAt(rollbacks, step);
  return last && step <= last.rateUntil ? last.rateFactor : 1;
}

/**
 * Index, in the order of the data, of the first sample of a step.
 * @param rollbacks decisions that the run rests on, oldest first
 */
export function firstSampleOf(config: BatchSettings, step: number, rollbacks: readonly Rollback[]): number {
  const last = rollbackAt(rollbacks, step);
  const ordinary = samplesBefore(config, step);
  return last ? last.nextSample + ordinary - samplesBefore(config, last.to + 1) : ordinary;
}
