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

/** What a change of a row's configuration may say: of everything else there is a line of the experiment. */
interface Change {
  /** `section.key=value` each. */
  readonly changes?: readonly string[];
  readonly hopeless?: HopelessRule;
}

/** What none of the weights depends on, nor what is measured of them. */
const OF_NO_CONSEQUENCE = ['name', 'hosts', 'faults', 'checkpoint', 'initialize'] as const;

/** Makes cells. */
export class Cells {
  readonly #of: CellsOf;
  readonly #corpora: (data: RunConfig['data']) => Corpora;

  /** @param corpora of a run's configuration, prepared */
  constructor(of: CellsOf, corpora: (data: RunConfig['data']) => Corpora) {
    this.#of = of;
    this.#corpora = corpora;
  }

  /** @throws as `resolveRow` */
  make(row: ExperimentRow, seed: number, { changes = [], hopeless }: Change = {}): Cell {
    const { experiment } = this.#of;
    const source = row.from === undefined ? undefined : experiment.rows.find(({ name }) => name === row.from);
    const from = source && this.make(source, seed);
    const config = resolveRow(this.#of, row, [...changes, `seed=${seed}`]);
    return { row, seed, config, hopeless, key: this.#keyOf(config, from, hopeless), from };
  }

  /** Content hash of what is trained on, and the loss of a unigram model on it. */
  corporaOf({ config }: Pick<Cell, 'config'>): Corpora {
    return this.#corpora(config.data);
  }

  #keyOf(config: RunConfig, from: Cell | undefined, hopeless: HopelessRule | undefined): string {
    const { missing, optimizer } = config.initialize;
    const { lanes } = config.parallel;
    const { mixture } = config.data;
    const counted: Record<string, unknown> = {
      ...config,
      parallel: { lanes },
      // A corpus is what was prepared, wherever its recipe lies.
      data: { ...config.data, recipe: undefined, mixture: mixture && { ...mixture, recipes: undefined } },
      corpora: this.#corpora(config.data).datasetHash,
      from: from && { weights: from.key, missing, optimizer },
      hopeless,
    };
    for (const name of OF_NO_CONSEQUENCE) delete counted[name];
    return hashConfig(counted);
  }
}

/**
 * The configuration of a row's run, with absolute paths.
 * @param changes made last, `section.key=value` each
 * @throws the coded errors of `experimentRun` and `validateConfig`, with the name of the row
 */
export function resolveRow(
  { path, experiment, scale }: CellsOf,
  row: ExperimentRow,
  changes: readonly string[] = [],
): RunConfig {
  try {
    const written = experimentRun(path, experiment, row, scale, changes);
    if (written.initialize.from !== undefined) {
      throw new SluiceError(
        'SLUICE_E_USAGE',
        `it begins with the weights of ${written.initialize.from} (initialize.from); in an experiment a row begins with those of another, which it names by \`from\`.`,
      );
    }
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

/** Names the corpora of a configuration while they are not prepared. */
export function corporaName({ data }: Pick<RunConfig, 'data'>): string {
  return recipesOf(data).join('\n');
}
