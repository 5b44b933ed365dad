/** Where a run is told to beside its logs, as its configuration has it. None of it may keep it from training. */

import { existsSync, readdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import {
  type DiagnosticsRecord,
  type MetricsSink,
  RunMetrics,
  type RunProcesses,
  type SampleRecord,
  type StepRecord,
  type StepTimeline,
  serveMetrics,
  TENSORBOARD_FOLDER,
  TensorboardSink,
  TraceCollector,
} from '@sluice/observe';
import type { RunConfig } from '@sluice/train';
import { LOCAL_HOST } from '../fleet/localHost.ts';
import type { RunDirectory } from '../run/runDirectory.ts';
import { configInRun } from '../run/runPaths.ts';
import { collectorOf } from './collector.ts';

/** Tells people. */
type Tell = (text: string, kind?: 'warning') => void;

/** A place, and what it is told. */
type OpenSink = Pick<MetricsSink, 'name' | 'close'> &
  Partial<MetricsSink> & {
    processes?(processes: RunProcesses): void;
    timeline?(timeline: StepTimeline, startMs: number): void;
  };

/** At its end, a run waits that long for traces, ms. */
const CLOSE_LIMIT_MS = 5000;

/** All of them together. */
export class Sinks {
  #sinks: readonly OpenSink[] = [];
  #tell: Tell = () => {};

  /** Opens those that the configuration asks for; one that cannot be opened is told of, and left out. */
  async open(run: RunDirectory, config: RunConfig, tell: Tell): Promise<void> {
    this.#tell = tell;
    const { tensorboard = false, metricsPort } = config.observe ?? {};
    const wanted: (() => OpenSink | undefined | Promise<OpenSink>)[] = [
      ...(tensorboard ? [() => tensorboardSink(run, config)] : []),
      () => traceSink(run, config, tell),
      ...(metricsPort === undefined ? [] : [() => prometheusSink(run, config, tell)]),
    ];
    for (const open of wanted) {
      try {
        const sink = await open();
        if (sink) this.#sinks = [...this.#sinks, sink];
      } catch (error) {
        tell(`${(error as Error).message} Training goes on without.`, 'warning');
      }
    }
  }

  step(record: StepRecord): void {
    this.#each((sink) => sink.step?.(record));
  }

  measured(record: DiagnosticsRecord): void {
    this.#each((sink) => sink.measured?.(record));
  }

  sampled(samples: readonly SampleRecord[]): void {
    this.#each((sink) => sink.sampled?.(samples));
  }

  wentBack(step: number): void {
    this.#each((sink) => sink.wentBack?.(step));
  }

  processes(processes: RunProcesses): void {
    this.#each((sink) => sink.processes?.(processes));
  }

  /** @param startMs when the step began, ms since 1970 */
  timeline(timeline: StepTimeline, startMs: number): void {
    this.#each((sink) => sink.timeline?.(timeline, startMs));
  }

  async close(isSuccess: boolean): Promise<void> {
    const closing: (void | Promise<void>)[] = [];
    this.#each((sink) => {
      closing.push(sink.close(isSuccess));
    });
    await Promise.allSettled(closing);
    this.#sinks = [];
  }

  /** One that fails is told no more. */
  #each(act: (sink: OpenSink) => void): void {
    for (const sink of this.#sinks) {
      try {
        act(sink);
      } catch (error) {
        this.#sinks = this.#sinks.filter((other) => other !== sink);
        this.#tell(`${sink.name} is told no more: ${(error as Error).message} Training goes on.`, 'warning');
      }
    }
  }
}

function tensorboardSink(run: RunDirectory, config: RunConfig): MetricsSink {
  const folder = join(run.path, TENSORBOARD_FOLDER);
  const isNew = !existsSync(folder) || readdirSync(folder).length === 0;
  return new TensorboardSink(folder, { config: configInRun(run.path, config), isNew, now: secondsNow });
}

function traceSink(run: RunDirectory, config: RunConfig, tell: Tell): OpenSink | undefined {
  const access = collectorOf(run.path, config, process.env);
  if (access === undefined) return undefined;
  const collector = new TraceCollector(access, (text) => tell(text, 'warning'));
  return {
    name: 'OpenTelemetry',
    timeline: (timeline, startMs) => collector.send(withHostNames(timeline), startMs),
    close: () => collector.close(CLOSE_LIMIT_MS),
  };
}

/** Whoever reads traces is elsewhere. */
function withHostNames({ step, ranks }: StepTimeline): StepTimeline {
  const named = (host: string) => (host === LOCAL_HOST ? hostname() : host);
  return { step, ranks: ranks.map((rank) => ({ ...rank, host: named(rank.host) })) };
}

async function prometheusSink(run: RunDirectory, config: RunConfig, tell: Tell): Promise<OpenSink> {
  const { metricsPort = 0, metricsHost = '127.0.0.1' } = config.observe ?? {};
  const { steps } = config.training;
  const metrics = new RunMetrics({ run: config.name ?? basename(run.path), steps, directory: run.path });
  const server = await serveMetrics(metrics.registry, { host: metricsHost, port: metricsPort });
  tell(`metrics for Prometheus: ${server.url}`);
  metrics.close = () => server.close();
  return metrics;
}

/** Since 1970. */
function secondsNow(): number {
  return (performance.timeOrigin + performance.now()) / 1000;
}
