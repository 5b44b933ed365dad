/** Where a run is told to beside its logs, as its configuration has it. None of them may keep it from training. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type DiagnosticsRecord,
  type MetricsSink,
  type StepRecord,
  TENSORBOARD_FOLDER,
  TensorboardSink,
} from '@sluice/observe';
import type { RunConfig } from '@sluice/train';
import type { RunDirectory } from '../run/runDirectory.ts';
import { configInRun } from '../run/runPaths.ts';

/** All of them together. */
export class Sinks {
  #sinks: readonly MetricsSink[];
  readonly #warn: (text: string) => void;

  constructor(sinks: readonly MetricsSink[], warn: (text: string) => void) {
    this.#sinks = sinks;
    this.#warn = warn;
  }

  step(record: StepRecord): void {
    this.#each((sink) => sink.step(record));
  }

  measured(record: DiagnosticsRecord): void {
    this.#each((sink) => sink.measured(record));
  }

  wentBack(step: number): void {
    this.#each((sink) => sink.wentBack(step));
  }

  async close(isSuccess: boolean): Promise<void> {
    const closing: Promise<void>[] = [];
    this.#each((sink) => {
      closing.push(Promise.resolve(sink.close(isSuccess)));
    });
    await Promise.allSettled(closing);
    this.#sinks = [];
  }

  /** One that fails is told no more. */
  #each(tell: (sink: MetricsSink) => void): void {
    for (const sink of this.#sinks) {
      try {
        tell(sink);
      } catch (error) {
        this.#sinks = this.#sinks.filter((other) => other !== sink);
        this.#warn(`${sink.name} is told no more: ${(error as Error).message} Training goes on.`);
      }
    }
  }
}

export const NO_SINKS = new Sinks([], () => {});

/** Those that the configuration asks for; one that cannot be opened is told of, and left out. */
export function openSinks(run: RunDirectory, config: RunConfig, warn: (text: string) => void): Sinks {
  const wanted: (() => MetricsSink)[] = [];
  const { tensorboard = false } = config.observe ?? {};
  if (tensorboard) wanted.push(() => tensorboardSink(run, config));
  const sinks = wanted.flatMap((open) => {
    try {
      return [open()];
    } catch (error) {
      warn(`${(error as Error).message} Training goes on without.`);
      return [];
    }
  });
  return new Sinks(sinks, warn);
}

function tensorboardSink(run: RunDirectory, config: RunConfig): MetricsSink {
  const folder = join(run.path, TENSORBOARD_FOLDER);
  const isNew = !existsSync(folder) || readdirSync(folder).length === 0;
  return new TensorboardSink(folder, { config: configInRun(run.path, config), isNew, now: secondsNow });
}

/** Since 1970. */
export function secondsNow(): number {
  return (performance.timeOrigin + performance.now()) / 1000;
}
