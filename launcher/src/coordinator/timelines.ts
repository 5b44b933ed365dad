/** Writes what the workers did in the steps of which a timeline is wanted. */

import { join } from 'node:path';
import { makeDirectories, SluiceError, writeOutputFile } from '@sluice/core';
import { type StepTimeline, stepTimeline, timelinePicture, traceText } from '@sluice/observe';
import { type RunDirectory, refuseVanished } from '../run/runDirectory.ts';
import { shownPath } from './recorder.ts';
import type { AfterStep } from './trainingRun.ts';

export interface TimelineFiles {
  readonly run: Pick<RunDirectory, 'path' | 'timelines'>;
  /** Name of the host of a worker. */
  readonly hostOf: (rank: number) => string;
  /** Told of the step, and of about when it began, ms since 1970. */
  readonly send: (timeline: StepTimeline, startMs: number) => void;
  readonly tell: (text: string) => void;
  readonly warn: (text: string) => void;
}

/** A file that cannot be written holds up nothing. */
export function timelinesAfterStep({ run, hostOf, send, tell, warn }: TimelineFiles): AfterStep {
  return async (_, { result: { step }, timelines }) => {
    if (timelines === undefined) return;
    const ranks = timelines.map((timeline, rank) => ({ ...timeline, rank, host: hostOf(rank) }));
    const timeline = stepTimeline(step, ranks);
    const length = Math.max(...timeline.ranks.map(({ end }) => end));
    send(timeline, performance.timeOrigin + performance.now() - length);
    const path = join(run.timelines, `step-${String(step).padStart(8, '0')}`);
    try {
      refuseVanished(run);
      makeDirectories(run.timelines);
      await writeOutputFile(`${path}.json`, traceText(timeline));
      await writeOutputFile(`${path}.svg`, [timelinePicture(timeline)]);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      warn(`There is no timeline of step ${step}: ${error.message}`);
      return;
    }
    tell(`timeline of step ${step}: ${shownPath(path)}.json (open it at ui.perfetto.dev) and .svg`);
  };
}
