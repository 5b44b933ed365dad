/** Runs and experiments below folders. */

import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { ExperimentResults } from '@sluice/observe';
import { foldersIn } from '../operate/runsBelow.ts';
import { refuseMissing } from '../run/missingPath.ts';
import { runDirectory } from '../run/runDirectory.ts';

/** How deep below a folder a run may lie: an experiment's lies in `experiments/runs/KEY/run`. */
const DEPTH = 4;

export interface FoundRun {
  readonly path: string;
  /** From the folder that it was found in. */
  readonly name: string;
  readonly group: string | undefined;
}

export interface FoundExperiment {
  readonly path: string;
  readonly name: string;
  readonly results: string;
  readonly report: string | undefined;
}

/** Runs that are named, and those below folders that are named. @throws SLUICE_E_FILE_MISSING */
export function findRuns(places: readonly string[]): FoundRun[] {
  const found = new Map<string, FoundRun>();
  for (const place of places) {
    const root = resolve(place);
    refuseMissing(root);
    for (const path of isRun(root) ? [root] : runsBelow(root, DEPTH)) {
      if (!found.has(path)) found.set(path, { path, ...namesOf(root, path) });
    }
  }
  return [...found.values()];
}

/** Folders below those named that hold the results of an experiment. */
export function findExperiments(places: readonly string[]): FoundExperiment[] {
  const folders = places.flatMap((place) => [resolve(place), ...foldersIn(resolve(place))]);
  return [...new Set(folders)].flatMap((path) => {
    const results = join(path, 'results.json');
    const report = join(path, 'report.html');
    if (!existsSync(results) || isRun(path)) return [];
    return [{ path, name: basename(path), results, report: existsSync(report) ? report : undefined }];
  });
}

/** How far an experiment is, in words. */
export function experimentProgress({ results }: Pick<FoundExperiment, 'results'>): string {
  try {
    const { title, runs } = ExperimentResults.parse(JSON.parse(readFileSync(results, 'utf8')));
    const done = runs.filter(({ outcome }) => outcome !== 'pending').length;
    return `${title}: ${done} of ${runs.length} runs done`;
  } catch {
    return 'its results cannot be read';
  }
}

function isRun(path: string): boolean {
  const run = runDirectory(path);
  return existsSync(run.config) && existsSync(run.journal);
}

function runsBelow(folder: string, depth: number): string[] {
  if (depth === 0) return [];
  return foldersIn(folder).flatMap((path) => (isRun(path) ? [path] : runsBelow(path, depth - 1)));
}

/** The run itself where it was named; `run` at the end of an experiment's tells nothing. */
function namesOf(root: string, path: string): { name: string; group: string | undefined } {
  if (root === path) return { name: basename(path), group: undefined };
  const below = relative(root, path).replace(/[\\/]run$/, '');
  const group = dirname(below);
  return { name: group === '.' ? below : basename(below), group: group === '.' ? undefined : group };
}
