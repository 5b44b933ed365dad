/** What a watching server is told of runs by whoever knows their journals and processes. */

import type { ReportFacts, RunStatus } from '../report/facts.ts';

export interface WatchedRun {
  /** Names the run in addresses; tells nothing of where it lies. */
  readonly id: string;
  /** Its directory. */
  readonly path: string;
  /** As people call it; shown from the folder that is watched. */
  readonly name: string;
  /** The experiment or folder that it belongs to. */
  readonly group?: string | undefined;
  /** How it is with it, from its files, quickly. */
  brief(): RunBrief;
  /** @param other run whose configuration is held against this one's */
  facts(other?: WatchedRun): Promise<ReportFacts>;
}

export interface RunBrief {
  readonly status: RunStatus;
  /** That it is to take; undefined where its configuration cannot be read. */
  readonly steps: number | undefined;
  /** The last one that the journal tells of. */
  readonly validationLoss: number | undefined;
  readonly spikes: number;
  readonly rollbacks: number;
}

export interface WatchedExperiment {
  readonly id: string;
  readonly name: string;
  /** In words. */
  readonly progress: string;
  /** File of its report; undefined where there is none yet. */
  readonly report: string | undefined;
}

export interface Catalog {
  runs(): readonly WatchedRun[];
  experiments(): readonly WatchedExperiment[];
}
