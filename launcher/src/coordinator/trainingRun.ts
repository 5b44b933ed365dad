/** What the coordinator's main loop works with, and what it tells of. */

import type {
  EvaluateResult,
  Rollback,
  RunConfig,
  SpikeDetector,
  SpikeEvent,
  StepResult,
  WorkerTimeline,
} from '@sluice/train';
import type { Journal } from '../run/journal.ts';
import type { Recovery, RecoveryRate } from '../run/recovery.ts';
import type { StopSignal } from '../signals/stopSignal.ts';
import type { StagedCheckpoint, UnsoundState } from './checkpoints.ts';
import type { Patience } from './insist.ts';
import type { CoordinatorState } from './state.ts';
import type { Workers } from './workers.ts';

/** Reports of the loop to whoever shows or records them. None may change what the loop does. */
export interface TrainObserver {
  /** What the workers are busy with; undefined: stepping. */
  activity(text: 'validating' | 'measuring' | 'sampling' | 'saving' | 'going back' | undefined): void;
  step(report: StepReport): void;
  /** @param now the step that the run goes on from; where it is before that of the decision, the steps between are retaken */
  wentBack(decision: Rollback, now: number): void;
  saveRequested(step: number): void;
  /** @param seconds that training stood still */
  saveStaged(step: number, seconds: number): void;
  /** The checkpoint is durable. @param seconds since it was requested */
  saved(step: number, path: string, seconds: number): void;
  /** @param next what follows from it, as a sentence */
  saveFailed(step: number, reason: string, next: string): void;
}

/** One step, with what followed from it. */
export interface StepReport {
  readonly result: StepResult;
  readonly learningRate: number;
  /** Seconds of the coordinator's clock that the step took. */
  readonly seconds: number;
  /** The times of each worker, in order of ranks. */
  readonly ranks: readonly StepResult['seconds'][];
  /** What each worker did, in order of ranks; only of steps of which that was wanted. */
  readonly timelines: readonly WorkerTimeline[] | undefined;
  readonly spike: SpikeEvent | undefined;
  /** Steps in a row whose update was not applied, up to this one. */
  readonly nonFiniteInARow: number;
  readonly validation: EvaluateResult | undefined;
}

/**
 * Something to be done after every step and before the checkpoint that may follow. It may ask the workers, but changes nothing
 * that training goes on with.
 */
export type AfterStep = (run: Pick<TrainingRun, 'workers' | 'observer'>, report: StepReport) => Promise<void>;

/** Where a run has gone back to. */
export interface Restored {
  readonly state: CoordinatorState;
  /** Step of the newest checkpoint that it rests on; −1 where there is none. */
  readonly savedStep: number;
}

/** Everything that a run needs while it goes on. */
export interface TrainingRun {
  readonly config: RunConfig;
  readonly workers: Workers;
  readonly journal: Journal;
  readonly observer: TrainObserver;
  readonly stop: StopSignal;
  /** Throws when the run is another process's by now, and this one is to write nothing more. */
  readonly assertOwned: () => void;
  /** Whether the workers are to be spread anew, over hosts that have come since. */
  readonly wantsRegroup: () => boolean;
  /** Updated in place after each step. */
  readonly state: CoordinatorState;
  readonly spikes: Pick<SpikeDetector, 'observe' | 'limits' | 'inARow'> & {
    /** JSON; saved with each checkpoint. */
    state(): unknown;
    restore(state: unknown): void;
  };
  /** Factor of the learning rate of a step, for experiments. */
  readonly rateOf?: (step: number) => number;
  /** Judges what a step that was computed again has shown. @throws SLUICE_E_WRONG_ARITHMETIC */
  readonly judgeArithmetic: (result: StepResult) => void;
  /** Takes the workers, and the logs, back to the state after the decision's step, or to the newest before it that there is. */
  readonly goBack: (decision: Rollback) => Promise<Restored>;
  /** In this order. */
  readonly afterStep: readonly AfterStep[];
  /** Writes a checkpoint of the workers and of `state`, durable when it resolves, or says why their weights are worth none. */
  readonly checkpoint: (
    state: CoordinatorState,
  ) => Promise<{ readonly path: string } | { readonly unsound: string }>;
  /**
   * As `checkpoint`, up to where training may go on, and the rest when it is asked for; left out where training waits for every
   * checkpoint.
   */
  readonly stage?: ((state: CoordinatorState) => Promise<StagedCheckpoint | UnsoundState>) | undefined;
  /** After a stop by numbers: from where to go on, and how. Called once the stop is in the journal. */
  readonly recovery: (rate: RecoveryRate) => Recovery;
  /** Step of the checkpoint that the run started from; −1 when there is none. */
  readonly savedStep: number;
  /** Of this invocation; the run's own last step, or one before it. */
  readonly lastStep: number;
  /** Whether there is something to validate on. */
  readonly validates: boolean;
  /** Does what the run cannot go on without, and waits for a disk that does not take it. */
  readonly whenWritable: <T>(work: () => T | Promise<T>) => Promise<T>;
  /** How the last save is tried again, where not as usual. */
  readonly lastSave?: Patience;
}
