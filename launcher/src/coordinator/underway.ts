/** What a session is given, what it has at hand while it goes on, and what it comes to. */

import type { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import type { RunConfig } from '@sluice/train';
import type { Fleet } from '../fleet/fleet.ts';
import type { Host } from '../fleet/host.ts';
import type { Journal } from '../run/journal.ts';
import type { RunLock } from '../run/lock.ts';
import type { RunDirectory } from '../run/runDirectory.ts';
import type { StopSignal } from '../signals/stopSignal.ts';
import type { CommittedCheckpoint } from './checkpoints.ts';
import type { RunCorpora } from './corpora.ts';
import type { Patience } from './insist.ts';
import type { MemoryCopies } from './memoryCopies.ts';
import type { Recorder } from './recorder.ts';
import type { Restarts } from './restarts.ts';
import type { RunBoard } from './runBoard.ts';
import type { Sinks } from './sinks.ts';
import type { CoordinatorState } from './state.ts';
import type { StopReason } from './trainRun.ts';
import type { ArithmeticFaults } from './wrongArithmetic.ts';

export interface Session {
  readonly run: RunDirectory;
  readonly config: RunConfig;
  readonly corpora: RunCorpora;
  readonly tokenizer: TokenizerRecord;
  readonly journal: Journal;
  /** Where to go on from; absent for a new run. */
  readonly from?: Start | undefined;
  /**
   * Decides, once the hosts are there, where to go on from, since they may have something newer than `from`, which it is where
   * this is left out.
   */
  readonly begin?: (hosts: readonly Host[], recorder: Recorder) => Promise<Start | undefined>;
  /** Of this invocation. */
  readonly lastStep: number;
  readonly fleet: Fleet;
  readonly lock: Pick<RunLock, 'assertOwned'>;
  /** Tells the run from others. */
  readonly id: string;
}

export interface SessionOutcome {
  readonly reason: StopReason;
  /** Whether a person stopped it, for good: nothing is to start it again by itself. */
  readonly isStopFinal: boolean;
  readonly state: CoordinatorState;
  readonly checkpoint: CommittedCheckpoint;
  readonly tokensPerSecond: number | null;
  readonly parameters: { readonly total: number; readonly active: number };
}

/** What workers go on from. */
export interface Start {
  readonly state: CoordinatorState;
  readonly checkpoint?: CommittedCheckpoint | undefined;
  /** In place of a checkpoint. */
  readonly copies?: MemoryCopies;
}

/** What a session has at hand while it goes on, whatever happens to its workers. */
export interface Underway {
  readonly recorder: Recorder;
  readonly sinks: Sinks;
  readonly stop: StopSignal;
  readonly restarts: Restarts;
  readonly board: RunBoard;
  readonly arithmetic: ArithmeticFaults;
  /** With a disk that does not take what the run cannot go on without, where not as usual. */
  readonly patience?: Patience;
  /** The newest checkpoint; none before the first. */
  latest: CommittedCheckpoint | undefined;
  /** The newest copies in the hosts' memory, where there are such. */
  copies: MemoryCopies | undefined;
  /** Of the workers that are there. */
  state: CoordinatorState;
}
