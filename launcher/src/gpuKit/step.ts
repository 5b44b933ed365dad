/** What a step of the kit is, and what comes of it. */

import type { Scale } from '@sluice/engine/cuda';

export interface KitContext {
  readonly scale: Scale;
  /** Whether the emulator stands in for a GPU. */
  readonly isEmulated: boolean;
  /** A folder of the step's own, for files. */
  readonly folder: string;
  /** When it has to come to its end, on `performance.now()`'s clock, if what it measured is to be told. */
  readonly endsAtMs: number;
  /** What earlier steps have measured, by their names. */
  readonly earlier: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Keeps what was measured until now, in case that the step is cut off. */
  readonly keep: (data: Readonly<Record<string, unknown>>) => void;
  readonly log: (line: string) => void;
}

/** Whether what came out is what had to; or it was left out, for a reason. */
export type Verdict = 'right' | 'wrong' | 'skipped';

export interface StepReport {
  readonly verdict: Verdict;
  /** One line. */
  readonly summary: string;
  /** Tables for people. */
  readonly text?: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export type RunStep = (context: KitContext) => Promise<StepReport>;

/**
 * Opens the card in a process of its own, and tells which cases there are, what else is to be known, and how one is done: see `series.ts`.
 */
export type OpenSeries = (scale: Scale) => Promise<{
  readonly names: readonly string[];
  readonly facts: unknown;
  readonly run: (name: string) => unknown;
}>;

export interface KitStep {
  readonly name: string;
  readonly describe: string;
  /** Seconds that it may take on a card. */
  readonly limitSeconds: number;
  /** Imports what does it: each step runs in a process of its own. */
  readonly load: () => Promise<{ readonly runStep: RunStep; readonly openSeries?: OpenSeries }>;
}
