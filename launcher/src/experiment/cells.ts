/** The runs of an experiment: each row with each seed, resolved, and what tells one from another. */

import { hashConfig, SluiceError } from '@sluice/core';
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
  type RetrievalConfig,
} from './config.ts';
import type { HopelessRule } from './hopeless.ts';

/** One run of an experiment. */
export interface Cell {
  readonly row: ExperimentRow;
  readonly seed: number;
  /** Resolved, with absolute paths; without the weights that it begins with. */
  readonly config: RunConfig;
  /** When it is given up before its end: a probe, of which nothing but its curve is of interest. */
  readonly hopeless?: HopelessRule | undefined;
  /** What is asked of the trained model. */
  readonly retrieval: readonly RetrievalConfig[];
  /** Of all that its result depends on: cells of several experiments that have the same key are the same run. */
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

/** A corpus, or a mixture of them, that runs are trained on. */
export interface Corpora {
  /** Content hash of what was prepared. */
  readonly datasetHash: string;
  /** Loss of a unigram model on the held-out split, nats a token; null for a mixture. */
  readonly unigramLoss: number | null;
}

/** A run that a search tries, in place of the row's own. */
export interface Probe {
  readonly learningRate: number;
  readonly hopeless: HopelessRule;
}

export interface CellsOptions {
  readonly rows: readonly ExperimentRow[];
  /** As `resolveRow` gives it. */
  readonly configOf: (row: ExperimentRow) => RunConfig;
  /** Of a run's configuration, prepared. */
  readonly corporaOf: (config: RunConfig) => Corpora;
  readonly retrieval: readonly RetrievalConfig[];
}

/** What none of the weights depends on, nor what is measured of them. */
const OF_NO_CONSEQUENCE = ['name', 'hosts', 'faults', 'observe', 'checkpoint', 'initialize'] as const;

/** Makes cells. */
export class Cells {
  readonly #options: CellsOptions;

  constructor(options: CellsOptions) {
    this.#options = options;
  }

  make(row: ExperimentRow, seed: number, probe?: Probe): Cell {
    const { rows, configOf } = this.#options;
    const source = row.from === undefined ? undefined : rows.find(({ name }) => name === row.from);
    const from = source && this.make(source, seed);
    const own = { ...configOf(row), seed };
    const { learningRate = own.optimizer.learningRate, hopeless } = probe ?? {};
    const config = { ...own, optimizer: { ...own.optimizer, learningRate } };
    // Of a probe nothing is measured.
    const retrieval = probe ? [] : this.#options.retrieval;
    return {
      row,
      seed,
      config,
      hopeless,
      retrieval,
      key: this.#keyOf({ config, from, hopeless, retrieval }),
      from,
    };
  }

  configOf(row: ExperimentRow): RunConfig {
    return this.#options.configOf(row);
  }

  /** What a run is trained on. */
  corporaOf({ config }: Pick<Cell, 'config'>): Corpora {
    return this.#options.corporaOf(config);
  }

  #keyOf({ config, from, hopeless, retrieval }: Omit<Cell, 'row' | 'seed' | 'key'>): string {
    const { missing, optimizer } = config.initialize;
    const { lanes } = config.parallel;
    const { mixture } = config.data;
    const counted: Record<string, unknown> = {
      ...config,
      parallel: { lanes },
      // A corpus is what was prepared, wherever its recipe lies.
      data: { ...config.data, recipe: undefined, mixture: mixture && { ...mixture, recipes: undefined } },
      corpora: this.#options.corporaOf(config).datasetHash,
      from: from && { weights: from.key, missing, optimizer },
      hopeless,
      retrieval: retrieval.length > 0 ? retrieval : undefined,
    };
    for (const name of OF_NO_CONSEQUENCE) delete counted[name];
    return hashConfig(counted);
  }
}

/**
 * The configuration of a row's run, with absolute paths.
 * @throws the coded errors of `experimentRun` and `validateConfig`, with the name of the row
 */
export function resolveRow({ path, experiment, scale }: CellsOf, row: ExperimentRow): RunConfig {
  return namingRow(path, row, () => {
    const written = experimentRun(path, experiment, row, scale);
    if (written.initialize.from !== undefined) {
      throw new SluiceError(
        'SLUICE_E_USAGE',
        `it begins with the weights of ${written.initialize.from} (initialize.from); in an experiment a row begins with those of another, which it names by \`from\`.`,
      );
    }
    const config = configFromRun(experimentDirectory(path, experiment, row), written);
    validateConfig(config);
    return config;
  });
}

/** What `work` throws has the name of the row. */
export function namingRow<T>(path: string, row: ExperimentRow, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    throw new SluiceError(error.code, `Row ${row.name} of ${path}: ${error.message}`, {
      cause: error,
      details: { ...error.details, row: row.name },
    });
  }
}

/** Names the corpora of a configuration while they are not prepared. */
export function corporaName({ data }: Pick<RunConfig, 'data'>): string {
  return recipesOf(data).join('\n');
}
