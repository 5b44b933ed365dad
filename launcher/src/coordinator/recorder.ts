/** Records and shows what the loop reports: one line a step in metrics.jsonl, and the live display. */

import { basename, isAbsolute, relative } from 'node:path';
import {
  type DiagnosticsRecord,
  type FleetState,
  MetricsLog,
  ProgressDisplay,
  type SampleRecord,
  type StepRecord,
  stepRecord,
} from '@sluice/observe';
import { type RunConfig, samplesBefore } from '@sluice/train';
import { OptionalFile } from './optionalFile.ts';
import { type SavesReport, SavesSeen } from './savesSeen.ts';
import { Sinks } from './sinks.ts';
import { rollbackText, spikeText } from './spikes.ts';
import type { StepReport, TrainObserver } from './trainingRun.ts';

export interface Recorder extends TrainObserver {
  /** A line above the display. */
  message(text: string, kind?: 'info' | 'good' | 'warning' | 'error'): void;
  /** What is waited for, on a terminal only; undefined: nothing. */
  status(text: string | undefined): void;
  /** The hosts of a run that has several. */
  fleet(state: FleetState): void;
  /** Training tokens a second of this invocation; null when it took no step. */
  tokensPerSecond(): number | null;
  /** What has become of this invocation's saves. */
  saves(): SavesReport;
  /** What was measured inside of the model after a step. */
  measured(record: DiagnosticsRecord): void;
  /** What the model wrote after a step. */
  sampled(samples: readonly SampleRecord[]): void;
  /** Lets `rewrite` take the steps after `step` out of the metrics, while they are not open. */
  goBack(step: number, rewrite: () => void): void;
  close(): void;
}

/** @param sinks told of what is recorded as well */
export function openRecorder(
  metricsPath: string,
  config: RunConfig,
  sinks: Pick<Sinks, 'step' | 'measured' | 'sampled' | 'wentBack'> = new Sinks(),
): Recorder {
  let metrics = MetricsLog.open(metricsPath);
  const display = new ProgressDisplay({
    totalSteps: config.training.steps,
    workThrough: (step) => samplesBefore(config, step + 1),
  });
  const file = new OptionalFile(basename(metricsPath), (text) => display.message(text, 'warning'));
  const rate = new RateMeter();
  const saves = new SavesSeen();
  return {
    activity: (text) => display.status(text && `${text}…`),
    step(report) {
      const tokensPerSecond = report.result.tokens / report.seconds;
      rate.add(report.result.tokens, report.seconds);
      const record = stepRecord(report.result, {
        learningRate: report.learningRate,
        tokensPerSecond,
        spike: report.spike !== undefined,
        checkpoint: recordedSaves(saves.news()),
        ...validationOf(report),
      });
      file.write(record.step, () => metrics.append(record));
      display.step(record);
      sinks.step(record);
      for (const warning of warningsOf(report)) display.message(warning, 'warning');
    },
    wentBack(decision, now) {
      display.message(rollbackText(decision), 'warning');
      if (now < decision.to)
        display.message(`taking steps ${now + 1} to ${decision.to} once more: that state was not in memory`);
    },
    saveRequested: (step) => saves.note({ requested: step }),
    saveStaged: (step, seconds) => saves.note({ staged: step, stallSeconds: seconds }),
    saved(step, path, seconds) {
      const isStaged = saves.report.staged === step;
      saves.note({ durable: step, durableSeconds: seconds, failures: 0, lastFailure: null });
      if (!isStaged) saves.note({ stallSeconds: seconds });
      display.message(`saved step ${step}: ${shownPath(path)}`, 'good');
    },
    message: (text, kind) => display.message(text, kind),
    status: (text) => display.status(text),
    fleet: (state) => display.fleet(state),
    tokensPerSecond: () => rate.value(),
    saves: () => saves.report,
    saveFailed(step, reason, next) {
      saves.noteFailure(reason);
      display.message(`step ${step} could not be saved: ${reason} ${next}`, 'warning');
    },
    measured: (record) => sinks.measured(record),
    sampled: (samples) => sinks.sampled(samples),
    goBack(step, rewrite) {
      metrics.close();
      rewrite();
      metrics = MetricsLog.open(metricsPath);
      sinks.wentBack(step);
    },
    close() {
      file.close();
      display.end();
      metrics.close();
    },
  };
}

function validationOf({ validation }: StepReport): Pick<StepRecord, 'validationLoss' | 'validationLosses'> {
  if (!validation) return {};
  const { loss, corpora } = validation;
  const losses = corpora?.map(({ name, loss }) => [name, loss] as const);
  return { validationLoss: loss, ...(losses && { validationLosses: Object.fromEntries(losses) }) };
}

/** As a line of the metrics has it: nothing that there was not. */
function recordedSaves(report: SavesReport | undefined): StepRecord['checkpoint'] {
  if (!report) return undefined;
  const { requested, staged, durable, stallSeconds, durableSeconds, failures } = report;
  return {
    ...(requested !== null && { requested }),
    ...(staged !== null && { staged }),
    ...(durable !== null && { durable }),
    ...(stallSeconds !== null && { stallSeconds }),
    ...(durableSeconds !== null && { durableSeconds }),
    ...(failures > 0 && { failures }),
  };
}

/** A path as one would type it: from the current directory, where it lies below that. */
export function shownPath(path: string, current = process.cwd()): string {
  const below = relative(current, path);
  return below === '..' || below.startsWith('../') || isAbsolute(below) ? path : below;
}

/** What a person should know of a step at once. */
export function warningsOf({ result, spike, nonFiniteInARow }: StepReport): string[] {
  const texts: string[] = [];
  const isSound = Number.isFinite(result.loss) && Number.isFinite(result.gradientNorm);
  if (spike) {
    const skipped = !result.applied && isSound ? ': update left out' : '';
    texts.push(`step ${result.step}: spike: ${spikeText(spike)}${skipped}`);
  }
  if (!isSound) {
    texts.push(
      `step ${result.step}: loss ${result.loss}, gradient norm ${result.gradientNorm}: update left out (${nonFiniteInARow} in a row)`,
    );
  }
  return texts;
}

/** Mean rate of all steps but the first, which pays for warming up. */
class RateMeter {
  #steps = 0;
  #tokens = 0;
  #seconds = 0;
  #first = 0;

  add(tokens: number, seconds: number): void {
    this.#steps++;
    if (this.#steps === 1) {
      this.#first = tokens / seconds;
      return;
    }
    this.#tokens += tokens;
    this.#seconds += seconds;
  }

  value(): number | null {
    if (this.#steps === 0) return null;
    return this.#steps === 1 ? this.#first : this.#tokens / this.#seconds;
  }
}
