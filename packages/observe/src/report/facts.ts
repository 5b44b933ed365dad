/** What is told of a run beside its metrics: by whoever knows its journal, its processes and its checkpoints. */

import type { WayBack } from './data.ts';

/** What the report tells beside the metrics. All of it is optional. */
export interface ReportFacts {
  readonly title?: string | undefined;
  /** The resolved configuration. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** Parameters of the whole model, and those that one token uses. */
  readonly parameters?: { readonly total: number; readonly active: number } | undefined;
  /** Loss of a unigram model on the validation split, nats a token. */
  readonly unigramLoss?: number | undefined;
  /** False where the corpus holds nothing out, so that there will be no validation loss. */
  readonly hasValidation?: boolean | undefined;
  /** Nats a token; the last one of the metrics when left out. */
  readonly finalValidationLoss?: number | undefined;
  readonly checkpoints?: readonly ReportCheckpoint[] | undefined;
  readonly spikes?: readonly ReportSpike[] | undefined;
  /** Each time that the run went back, oldest first. */
  readonly rollbacks?: readonly WayBack[] | undefined;
  /** How it is with the run now. */
  readonly status?: RunStatus | undefined;
  /** What happened, oldest first. */
  readonly story?: readonly StoryLine[] | undefined;
  readonly workers?: readonly ReportWorker[] | undefined;
  readonly differences?: ConfigDifferences | undefined;
  /** What else there is to know of the run, a sentence each. */
  readonly notices?: readonly string[] | undefined;
}

export interface ReportCheckpoint {
  readonly step: number;
  /** Shown from the run's directory on, where it lies below it. */
  readonly directory: string;
  /** Content hash of its weights; its beginning is shown. */
  readonly weights?: string | undefined;
  readonly bytes?: number | undefined;
  readonly time?: string | undefined;
  readonly note?: string | undefined;
}

/** An episode of outlying steps. What is told in words is a cell of the table. */
export interface ReportSpike {
  /** First and last step of the spike. */
  readonly start: number;
  readonly end: number;
  /** Step at which it was highest. */
  readonly peak: number;
  /** How high, over what was usual. */
  readonly height: string;
  /** Which signal left its usual range first. */
  readonly first: string;
  /** What was done about it. */
  readonly decision: string;
  /** Whether the run gave its steps up. */
  readonly isGivenUp: boolean;
  /** Samples that are left out for good. */
  readonly leftOut: string;
  /** What became of the learning rate. */
  readonly rate: string;
}

/** How it is with a run. */
export interface RunStatus {
  readonly state: 'running' | 'finished' | 'stopped' | 'failed' | 'killed';
  /** The same in words. */
  readonly text: string;
}

/** An entry of the journal in words. */
export interface StoryLine {
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly step: number;
  readonly tone: 'plain' | 'good' | 'warning' | 'error';
  readonly text: string;
}

/** A worker as it was last heard of. */
export interface ReportWorker {
  readonly rank: number;
  readonly host: string;
  readonly pid?: number | undefined;
  readonly doing: string;
  /** Of its last step, all but the waiting for others, seconds. */
  readonly own?: number | undefined;
  readonly waiting?: number | undefined;
  /** Seconds from its last heartbeat to when this was written. */
  readonly heardAgo?: number | undefined;
}

/** Keys by which two runs' configurations differ. */
export interface ConfigDifferences {
  /** Name of the other run. */
  readonly other: string;
  readonly rows: readonly { readonly key: string; readonly own: unknown; readonly others: unknown }[];
}
