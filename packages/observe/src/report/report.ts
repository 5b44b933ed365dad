/** `report.html`: a run at a glance, in one file that needs no network and no server. */

import { isAbsolute, join, relative } from 'node:path';
import { writeFileAtomic } from '@sluice/core';
import { DIAGNOSTICS_FILE } from '../diagnosticsLog.ts';
import { METRICS_FILE } from '../metricsLog.ts';
import { SAMPLES_FILE } from '../samplesLog.ts';
import { loadChartAssets, pageScripts, RUN_SCRIPTS } from './assets.ts';
import { collectMetrics } from './collect.ts';
import { collectDiagnostics } from './diagnostics.ts';
import type { ReportCheckpoint, ReportFacts } from './facts.ts';
import { collectSuperseded, withGivenUp } from './givenUp.ts';
import { renderPage } from './html.ts';
import { collectSamples } from './samples.ts';

/** Name of the report in a run's directory. */
export const REPORT_FILE = 'report.html';

/**
 * Writes the report of a run, atomically, from its metrics and from `facts`.
 * @returns the path of the report
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function writeHtmlReport(runDirectory: string, facts: ReportFacts = {}): Promise<string> {
  const path = join(runDirectory, REPORT_FILE);
  await writeFileAtomic(path, await renderReport(runDirectory, facts));
  return path;
}

/** The report as one HTML document. */
export async function renderReport(runDirectory: string, facts: ReportFacts): Promise<string> {
  const { spikes = [], rollbacks = [], unigramLoss } = facts;
  const [{ summary, data }, diagnostics, samples, { givenUp, takenAgain }, assets] = await Promise.all([
    collectMetrics(join(runDirectory, METRICS_FILE), { unigramLoss }),
    collectDiagnostics(join(runDirectory, DIAGNOSTICS_FILE)),
    collectSamples(join(runDirectory, SAMPLES_FILE)),
    collectSuperseded(runDirectory, rollbacks),
    loadChartAssets(['report'], pageScripts(...RUN_SCRIPTS, 'script')),
  ]);
  const drawn = {
    ...data,
    charts: data.charts.map((chart) => withGivenUp(chart, givenUp)),
    spikes: spikes.map(({ start, end, isGivenUp }) => ({ start, end, isGivenUp })),
    rollbacks,
  };
  return renderPage(
    withinRun(runDirectory, facts),
    { summary, data: drawn, diagnostics, samples, takenAgain },
    assets,
  );
}

/** A report travels with its run: where that lay when it was written tells nothing. */
export function withinRun(runDirectory: string, facts: ReportFacts): ReportFacts {
  return { ...facts, checkpoints: facts.checkpoints?.map((one) => within(runDirectory, one)) };
}

function within(runDirectory: string, checkpoint: ReportCheckpoint): ReportCheckpoint {
  const below = relative(runDirectory, checkpoint.directory);
  const isOutside = below.startsWith('..') || isAbsolute(below);
  return isOutside ? checkpoint : { ...checkpoint, directory: below };
}
