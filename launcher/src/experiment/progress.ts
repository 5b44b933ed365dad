/** How an experiment gets on, for people to watch: a block where there is a terminal, a line for each run elsewhere. */

import { type ExperimentRun, formatDuration, formatLoss } from '@sluice/observe';
import { createLogUpdate } from 'log-update';
import type { Cell } from './cells.ts';

interface Underway {
  readonly cell: Cell;
  readonly begun: number;
  /** Undefined until one is seen: a run may go on from a later one than the first. */
  step: number | undefined;
  loss: number | null;
}

type Ended = Pick<ExperimentRun, 'outcome' | 'reason' | 'trainLoss' | 'validationLoss'>;

/** The display waits this long between two drawings, ms; where there is no terminal, between two lines of what is under way. */
const REDRAW_MS = 250;
const LINE_MS = 60_000;

export class ExperimentProgress {
  readonly #log: (line: string) => void;
  readonly #jobs: number;
  readonly #live: ReturnType<typeof createLogUpdate> | undefined;
  readonly #begun = performance.now();
  /** By their keys, as runs are. */
  readonly #waiting = new Map<string, Cell>();
  readonly #underway = new Map<string, Underway>();
  #total = 0;
  #ended = 0;
  #stepsTaken = 0;
  #drawn = performance.now();

  constructor(log: (line: string) => void, jobs: number, stream: NodeJS.WriteStream = process.stderr) {
    this.#log = log;
    this.#jobs = jobs;
    this.#live = stream.isTTY && process.env.TERM !== 'dumb' ? createLogUpdate(stream) : undefined;
  }

  /**
   * Runs that are to come.
   * @param all how many there are with those that are done
   */
  expect(cells: readonly Cell[], all: number): void {
    for (const cell of cells) this.#waiting.set(cell.key, cell);
    this.#total += cells.length;
    if (all === 1) return;
    const done = all - cells.length;
    const before = done > 0 ? `${done} of ${all} runs are done already, ` : '';
    this.say(`${before}${cells.length} to do, ${this.#jobs} at a time`);
  }

  started(cell: Cell): void {
    this.#waiting.delete(cell.key);
    this.#underway.set(cell.key, {
      cell,
      begun: performance.now(),
      step: undefined,
      loss: null,
    });
    this.#draw();
  }

  step(cell: Cell, step: number, loss: number | null): void {
    const one = this.#underway.get(cell.key);
    if (!one) return;
    this.#stepsTaken += Math.max(0, step - (one.step ?? step));
    one.step = step;
    one.loss = loss;
    this.#draw();
  }

  ended(cell: Cell, result: Ended): void {
    const took = (performance.now() - (this.#underway.get(cell.key)?.begun ?? performance.now())) / 1000;
    this.#underway.delete(cell.key);
    this.#waiting.delete(cell.key);
    this.#ended++;
    this.say(
      `${this.#ended}/${this.#total} ${cellName(cell.row.name, cell.seed)}: ${outcomeText(result)} (${formatDuration(took)}${this.#left()})`,
    );
  }

  /** A line that stays. */
  say(line: string): void {
    this.#live?.clear();
    this.#log(line);
    this.#draw(true);
  }

  close(): void {
    this.#live?.clear();
    this.#live?.done();
  }

  #left(): string {
    const seconds = (performance.now() - this.#begun) / 1000;
    const steps = [...this.#waiting.values()].reduce((sum, { config }) => sum + config.training.steps, 0);
    const running = [...this.#underway].reduce(
      (sum, [, { cell, step = 0 }]) => sum + cell.config.training.steps - step,
      0,
    );
    if (this.#stepsTaken === 0 || steps + running === 0) return '';
    return `, about ${formatDuration(((steps + running) * seconds) / this.#stepsTaken)} left`;
  }

  #draw(now = false): void {
    if (performance.now() - this.#drawn < (this.#live ? REDRAW_MS : LINE_MS) && !(now && this.#live)) return;
    this.#drawn = performance.now();
    const lines = [...this.#underway.values()].map(({ cell, step = 0, loss }) => {
      const shown = loss === null ? '' : `  loss ${formatLoss(loss)}`;
      return `  ${cellName(cell.row.name, cell.seed)}  step ${step}/${cell.config.training.steps}${shown}`;
    });
    const title = `${this.#ended} of ${this.#total} runs done, ${this.#jobs} at a time${this.#left()}`;
    if (this.#live) this.#live([title, ...lines].join('\n'));
    else this.#log([title, ...lines.map((line) => line.trim())].join('; '));
  }
}

/** How a run is called. */
export function cellName(row: string, seed: number): string {
  return `${row}, seed ${seed}`;
}

function outcomeText({ outcome, reason, trainLoss, validationLoss }: Ended): string {
  if (outcome !== 'finished') return `${outcome}: ${reason}`;
  if (validationLoss !== null) return `validation loss ${formatLoss(validationLoss)}`;
  return trainLoss === null ? 'finished' : `train loss ${formatLoss(trainLoss)}`;
}
