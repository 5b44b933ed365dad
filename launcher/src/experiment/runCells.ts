/** Runs the cells of an experiment side by side, each after the one whose weights it begins with. */

import { SluiceError } from '@sluice/core';
import pLimit from 'p-limit';
import type { Cell } from './cells.ts';
import { type CellOptions, type CellResult, knownResult, runCell } from './runCell.ts';

export interface RunCellsOptions extends CellOptions {
  /** Runs at a time. */
  readonly jobs: number;
  readonly onStart: (cell: Cell) => void;
  readonly onEnd: (cell: Cell, result: CellResult) => void;
}

/** Shares the cores out among runs that go on side by side. */
export class CellRunner {
  readonly #options: RunCellsOptions;
  readonly #stop: AbortSignal;
  readonly #slots: ReturnType<typeof pLimit>;
  readonly #results = new Map<string, Promise<CellResult>>();

  constructor(options: RunCellsOptions, stop: AbortSignal) {
    this.#options = options;
    this.#stop = stop;
    this.#slots = pLimit(options.jobs);
  }

  /**
   * The result of a cell, which is run once however often it is asked for.
   * @throws SLUICE_E_INTERRUPTED
   */
  run(cell: Cell): Promise<CellResult> {
    const known = this.#results.get(cell.key);
    if (known) return known;
    const result = this.#run(cell);
    this.#results.set(cell.key, result);
    return result;
  }

  async #run(cell: Cell): Promise<CellResult> {
    const before = knownResult(cell, this.#options);
    if (before) return before;
    const { from } = cell;
    if (from) {
      const begun = await this.run(from);
      if (begun.outcome !== 'finished') {
        const result = withoutWeights(cell, begun);
        this.#options.onEnd(cell, result);
        return result;
      }
    }
    return await this.#slots(async () => {
      this.#stop.throwIfAborted();
      this.#options.onStart(cell);
      const result = await runCell(cell, this.#options, this.#stop);
      this.#options.onEnd(cell, result);
      return result;
    });
  }
}

function withoutWeights(cell: Cell, { outcome }: CellResult): CellResult {
  // That training diverged before is a result of this run, too.
  const reason = `the run that it begins with, ${cell.from!.row.name}, ${outcome}`;
  return notRun(cell, outcome === 'diverged' ? 'diverged' : 'failed', reason);
}

function notRun(cell: Cell, outcome: CellResult['outcome'], reason: string | null): CellResult {
  const { config, seed, key } = cell;
  return {
    seed,
    learningRate: config.optimizer.learningRate,
    outcome,
    reason,
    errorCode: null,
    step: 0,
    steps: config.training.steps,
    tokens: 0,
    trainLoss: null,
    validationLoss: null,
    spikes: 0,
    configHash: key,
    weightsHash: null,
    arithmetic: null,
    diagnosis: null,
    curve: { steps: [], loss: [], gradientNorm: [] },
    validations: [],
  };
}

/** What cells came to, in their order. */
export interface CellsRun {
  readonly results: readonly CellResult[];
  /** What one of them threw, if any did: those that came to nothing are `pending`. */
  readonly failure: unknown;
}

/** Runs cells to their ends, or as far as they come. */
export async function runCells(runner: CellRunner, cells: readonly Cell[]): Promise<CellsRun> {
  const settled = await Promise.allSettled(cells.map((cell) => runner.run(cell)));
  const failures = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  return {
    results: settled.map((one, i) =>
      one.status === 'fulfilled' ? one.value : notRun(cells[i]!, 'pending', null),
    ),
    failure: failures.find((error) => !isInterruption(error)) ?? failures[0],
  };
}

function isInterruption(error: unknown): boolean {
  return error instanceof SluiceError && error.code === 'SLUICE_E_INTERRUPTED';
}
