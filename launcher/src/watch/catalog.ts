/** The runs and experiments that are watched, looked for again every few seconds: new ones come while one looks. */

import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import type { Catalog, WatchedExperiment } from '@sluice/observe';
import { experimentProgress, findExperiments, findRuns } from './findRuns.ts';
import { WatchedRunFiles } from './watchedRun.ts';

const LOOK_EVERY_MS = 3000;

export class FileCatalog implements Catalog {
  readonly #places: readonly string[];
  readonly #now: () => number;
  readonly #runs = new Map<string, WatchedRunFiles>();
  readonly #experiments = new Map<string, { readonly key: string; readonly shown: WatchedExperiment }>();
  #lookedAt = Number.NEGATIVE_INFINITY;

  /**
   * @param now a clock, ms
   * @throws SLUICE_E_FILE_MISSING
   */
  constructor(places: readonly string[], now: () => number = () => performance.now()) {
    this.#places = places;
    this.#now = now;
    this.#look();
  }

  runs(): readonly WatchedRunFiles[] {
    this.#lookAgain();
    return [...this.#runs.values()];
  }

  experiments(): readonly WatchedExperiment[] {
    this.#lookAgain();
    return [...this.#experiments.values()].map(({ shown }) => shown);
  }

  #lookAgain(): void {
    if (this.#now() - this.#lookedAt < LOOK_EVERY_MS) return;
    try {
      this.#look();
    } catch {
      // A folder that is away for a moment leaves what was known.
    }
  }

  #look(): void {
    this.#lookedAt = this.#now();
    const found = findRuns(this.#places);
    forgetOthers(this.#runs, found);
    for (const run of found)
      if (!this.#runs.has(run.path)) this.#runs.set(run.path, new WatchedRunFiles(run));
    const experiments = findExperiments(this.#places);
    forgetOthers(this.#experiments, experiments);
    for (const experiment of experiments) {
      const { path, name, results, report } = experiment;
      const key = `${statSync(results, { throwIfNoEntry: false })?.mtimeMs}`;
      const known = this.#experiments.get(path);
      const progress = known?.key === key ? known.shown.progress : experimentProgress(experiment);
      const id = createHash('sha256').update(path).digest('hex').slice(0, 12);
      this.#experiments.set(path, { key, shown: { id, name, progress, report } });
    }
  }
}

/** Those that are not there any more are not known any more. */
function forgetOthers(known: Map<string, unknown>, found: readonly { readonly path: string }[]): void {
  const paths = new Set(found.map(({ path }) => path));
  for (const path of known.keys()) if (!paths.has(path)) known.delete(path);
}
