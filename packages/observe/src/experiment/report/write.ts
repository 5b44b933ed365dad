/** Writes the report of an experiment: one file that needs no network. */

import { join } from 'node:path';
import { writeFileAtomic } from '@sluice/core';
import { loadChartAssets, type PageAssets, pageScripts } from '../../report/assets.ts';
import { REPORT_FILE } from '../../report/report.ts';
import type { FindLrResults } from '../findLr.ts';
import type { ExperimentResults } from '../results.ts';
import { type ExperimentReportExtras, renderExperiment, renderFindLr } from './page.ts';

/**
 * Writes `report.html`, atomically. Its bytes depend on the results and the extras alone.
 * @returns its path
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function writeExperimentReport(
  directory: string,
  results: ExperimentResults,
  extras: ExperimentReportExtras = {},
): Promise<string> {
  return write(directory, renderExperiment(results, extras, await loadAssets()));
}

/** The same of a search for the largest stable learning rates. */
export async function writeFindLrReport(
  directory: string,
  results: FindLrResults,
  { command }: Pick<ExperimentReportExtras, 'command'> = {},
): Promise<string> {
  return write(directory, renderFindLr(results, command, await loadAssets()));
}

async function write(directory: string, page: string): Promise<string> {
  const path = join(directory, REPORT_FILE);
  await writeFileAtomic(path, page);
  return path;
}

function loadAssets(): Promise<PageAssets> {
  const own = new URL('./page/script.js', import.meta.url);
  return loadChartAssets(['report', 'figures', 'experiment'], [...pageScripts('theme', 'charts'), own]);
}
