/** The runs of an experiment: each row with each seed, resolved, and what tells one from another. */

import { readFileSync } from 'node:fs';
import { hashConfig, SluiceError, sha256 } from '@sluice/core';
import { recipesOf } from '@sluice/data';
import type { RunConfig } from '@sluice/train';
import { configFromRun } from '../run/runPaths.ts';
import { validateConfig } from '../run/validate.ts';
import {
  type ExperimentConfig,
  type ExperimentRow,
  type ExperimentScale,
  experimentDirectory,
  experimentRun,
} from './config.ts';

/** One run of an experiment. */
export interface Cell {
  readonly row: ExperimentRow;
  readonly seed: number;
  /** Resolved, with absolute paths; without the weights that it begins with. */
  readonly config: RunConfig;
  /** Of all that a bit of the result depends on: cells of several experiments that have the same key are the same run. */
  readonly key: string;
  /** The run whose weights this one begins with. */
  readonly from?: Cell | undefined;
}

/** Where it lies in the file, and how it is scaled. */
export interface CellsOf {
  /** The experiment's file. */
  readonly path: string;
  readonly experiment: ExperimentConfig;
  readonly scale: ExperimentScale;
}

/** What none of the weights depends on, nor what is measured of them. */
const OF_NO_CONSEQUENCE = ['name', 'hosts', 'faults', 'checkpoint', 'initialize'] as const;

/** Makes cells, each once. */
export class Cells {
  readonly #of: CellsOf;
  readonly #recipes = new Map<string, string>();

  constructor(of: CellsOf) {
    this.#of = of;
  }

  /**
   * @param changes of the row's configuration, `section.key=value` each
   * @throws the coded errors of `experimentRun` and `validateConfig`, with the name of the row
   */
  make(row: ExperimentRow, seed: number, changes: readonly string[] = []): Cell {
    const { experiment } = this.#of;
    const source = row.from === undefined ? undefined : experiment.rows.find(({ name }) => name === row.from);
    const from = source && this.make(source, seed);
    const config = this.#resolve(row, [...changes, `seed=${seed}`]);
    return { row, seed, config, key: this.#keyOf(config, from), from };
  }

  #resolve(row: ExperimentRow, changes: readonly string[]): RunConfig {
    const { path, experiment, scale } = this.#of;
    try {
      const written = experimentRun(path, experiment, row, scale, changes);
      const config = configFromRun(experimentDirectory(path, experiment, row), written);
      validateConfig(config);
      return config;
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      throw new SluiceError(error.code, `Row ${row.name} of ${path}: ${error.message}`, {
        cause: error,
        details: { ...error.details, row: row.name },
      });
    }
  }

  #keyOf(config: RunConfig, from: Cell | undefined): string {
    const { missing, optimizer } = config.initialize;
    const { lanes } = config.parallel;
    const counted: Record<string, unknown> = {
      ...config,
      parallel: { lanes },
      data: { ...config.data, recipe: undefined, mixture: config.data.mixture && mixtureKeys(config) },
      recipes: recipesOf(config.data).map((recipe) => this.#hashOfFile(recipe)),
      from: from && { weights: from.key, missing, optimizer },
    };
    for (const name of OF_NO_CONSEQUENCE) delete counted[name];
    return hashConfig(counted);
  }

  /** A recipe is what it says, wherever it lies. */
  #hashOfFile(path: string): string {
    const known = this.#recipes.get(path) ?? sha256(readFileSync(path));
    this.#recipes.set(path, known);
    return known;
  }
}

function mixtureKeys({ data: { mixture } }: RunConfig) {
  return { ...mixture, recipes: undefined };
}
