/** `report.html`: a run at a glance, in one file that needs no network and no server. */

import { isAbsolute, join, relative } from 'node:path';
import { writeFileAtomic } from '@sluice/core';
import { DIAGNOSTICS_FILE } from '../diagnosticsLog.ts';
import { METRICS_FILE } from '../metricsLog.ts';
import { loadChartAssets, pageScripts } from './assets.ts';
import { collectMetrics } from './collect.ts';
import type { WayBack } from './data.ts';
import { collectDiagnostics } from './diagnostics.ts';
import { collectSuperseded, withGivenUp } from './givenUp.ts';
import { renderPage } from './html.ts';

/** Name of the report in a run's directory. */
export const REPORT_FILE = 'report.html';

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
  /** A text that the model wrote; `text` goes on where `prompt` ends. */
  readonly sample?: string | { readonly prompt: string; readonly text: string } | undefined;
  readonly checkpoints?: readonly ReportCheckpoint[] | undefined;
  readonly spikes?: readonly ReportSpike[] | undefined;
  /** Each time that the run went back, oldest first. */
  readonly rollbacks?: readonly WayBack[] | undefined;
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

/**
 * Writes the report of a run, atomically, from its metrics and from `facts`.
 * @returns the path of the report
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function writeHtmlReport(runDirectory: string, facts: ReportFacts = {}): Promise<string> {
  const { spikes = [], rollbacks = [], unigramLoss } = facts;
  const [{ summary, data }, diagnostics, { givenUp, takenAgain }, assets] = await Promise.all([
    collectMetrics(join(runDirectory, METRICS_FILE), { unigramLoss }),
    collectDiagnostics(join(runDirectory, DIAGNOSTICS_FILE)),
    collectSuperseded(runDirectory, rollbacks),
    loadChartAssets(['report'], pageScripts('theme', 'charts', 'marks', 'heatMaps', 'script')),
  ]);
  const drawn = {
    ...data,
    charts: data.charts.map((chart) => withGivenUp(chart, givenUp)),
    spikes: spikes.map(({ start, end, isGivenUp }) => ({ start, end, isGivenUp })),
    rollbacks,
  };
  const path = join(runDirectory, REPORT_FILE);
  const shown = { ...facts, checkpoints: facts.checkpoints?.map((one) => within(runDirectory, one)) };
  await writeFileAtomic(path, renderPage(shown, { summary, data: drawn, diagnostics, takenAgain }, assets));
  return path;
}

/** A report travels with its run: where that lay when it was written tells nothing. */
function within(runDirectory: string, checkpoint: ReportCheckpoint): ReportCheckpoint {
  const below = relative(runDirectory, checkpoint.directory);
  const isOutside = below.startsWith('..') || isAbsolute(below);
  return isOutside ? checkpoint : { ...checkpoint, directory: below };
}
