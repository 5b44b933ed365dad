/** A run's numbers as Prometheus scrapes them. Names and units follow its conventions: base units, counters end in `_total`. */

import { statfsSync } from 'node:fs';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { DiagnosticsRecord } from '../diagnosticsLog.ts';
import { maxViolation, STEP_PARTS, type StepRecord } from '../record.ts';
import { meanOfGates } from '../report/diagnostics.ts';
import type { MetricsSink } from '../sink.ts';

/** How it is with the processes of a run. */
export interface RunProcesses {
  readonly restarts: number;
  /** Step of the newest checkpoint; null when there is none. */
  readonly savedStep: number | null;
  readonly workers: readonly {
    readonly rank: number;
    readonly host: string;
    /** Of the last step, all but the waiting for others, seconds. */
    readonly own: number | null;
    readonly waiting: number | null;
    /** Seconds since the host's agent was heard of. */
    readonly heardAgo: number | null;
  }[];
}

export interface RunMetricsOptions {
  /** Name of the run, a label of everything. */
  readonly run: string;
  /** Steps that it is to take. */
  readonly steps: number;
  /** Its directory, whose disk is measured. */
  readonly directory: string;
}

export class RunMetrics implements MetricsSink {
  readonly name = 'Prometheus';
  readonly registry = new Registry();
  readonly #gauges = new Map<string, Gauge>();
  readonly #counters = new Map<string, Counter>();

  constructor({ run, steps, directory }: RunMetricsOptions) {
    this.registry.setDefaultLabels({ run });
    collectDefaultMetrics({ register: this.registry });
    this.#set('sluice_steps', 'Steps that the run is to take.', steps);
    for (const [name, help] of COUNTERS) {
      this.#counters.set(name, new Counter({ name, help, registers: [this.registry] }));
    }
    registerDisk(this.registry, directory);
  }

  step(record: StepRecord): void {
    const { step, seconds, groupNorms = {}, validationLoss } = record;
    this.#set('sluice_step', 'Last step that was taken.', step);
    this.#set('sluice_last_step_timestamp_seconds', 'When it had ended.', Date.parse(record.time) / 1000);
    this.#set('sluice_loss', 'Training loss of the last step, nats a token.', record.loss);
    if (validationLoss !== undefined) {
      this.#set('sluice_validation_loss', 'Last validation loss, nats a token.', validationLoss);
    }
    this.#set('sluice_gradient_norm', 'L2 norm of the gradient before clipping.', record.gradientNorm);
    for (const [group, norm] of Object.entries(groupNorms)) {
      this.#set('sluice_group_gradient_norm', 'The same of each group of parameters.', norm, { group });
    }
    this.#set('sluice_learning_rate', 'Learning rate of the last step.', record.learningRate);
    this.#set(
      'sluice_tokens_per_second',
      'Tokens of the last step over its seconds.',
      record.tokensPerSecond,
    );
    this.#set('sluice_step_seconds', 'Seconds of the last step.', seconds.total);
    for (const part of STEP_PARTS) {
      this.#set('sluice_step_part_seconds', 'Its parts, mean of the workers.', seconds[part], { part });
    }
    this.#set(
      'sluice_peak_memory_bytes',
      'Peak resident memory of the largest worker.',
      record.peakMemoryBytes,
    );
    const violation = maxViolation(record.expertLoad);
    if (Number.isFinite(violation)) {
      this.#set(
        'sluice_expert_max_violation',
        'Load of the busiest expert over the mean, less 1.',
        violation,
      );
    }
    this.#count('sluice_steps_taken_total', 1);
    this.#count('sluice_tokens_total', record.tokens);
    if (record.spike) this.#count('sluice_spikes_total', 1);
    if (!record.applied) this.#count('sluice_skipped_updates_total', 1);
  }

  measured(record: DiagnosticsRecord): void {
    // Models without attention have none.
    const { firstTokenAttention } = record;
    if (firstTokenAttention !== null) {
      this.#set('sluice_first_token_attention', 'Mean attention to the first token.', firstTokenAttention);
    }
    this.#set('sluice_massive_activation', 'Largest activation, mean of layers.', record.massiveActivation);
    const closed = meanOfGates(record.gates, 'belowTenth');
    if (closed !== undefined) {
      this.#set('sluice_gate_scores_below_tenth', 'Share of gate scores below 0.1.', closed);
      this.#set('sluice_gate_score_mean', 'Mean gate score.', record.gateScoreMean ?? Number.NaN);
    }
    if (record.router) this.#set('sluice_dead_experts', 'Experts without tokens.', record.router.deadExperts);
  }

  wentBack(step: number): void {
    this.#count('sluice_went_back_total', 1);
    this.#set('sluice_step', 'Last step that was taken.', step);
  }

  processes({ restarts, savedStep, workers }: RunProcesses): void {
    this.#set('sluice_restarts', 'How often workers were started anew after a fault.', restarts);
    if (savedStep !== null) this.#set('sluice_saved_step', 'Step of the newest checkpoint.', savedStep);
    const ofRanks = [
      ['sluice_worker_own_seconds', 'Of the last step, without waiting for others.', 'own'],
      ['sluice_worker_waiting_seconds', 'Of the last step, waiting for others.', 'waiting'],
      ['sluice_worker_heard_seconds', 'Since the agent of its host was heard of.', 'heardAgo'],
    ] as const;
    for (const [name, help, field] of ofRanks) {
      // Ranks that are gone, after a regrouping, leave no number behind.
      this.#gauges.get(name)?.reset();
      for (const { rank, host, [field]: value } of workers) {
        if (value !== null) this.#set(name, help, value, { rank: String(rank), host });
      }
    }
  }

  /** Whoever serves them ends that. */
  close: () => void | Promise<void> = () => {};

  #count(name: string, amount: number): void {
    if (Number.isFinite(amount)) this.#counters.get(name)!.inc(amount);
  }

  #set(name: string, help: string, value: number, labels: Readonly<Record<string, string>> = {}): void {
    let gauge = this.#gauges.get(name);
    if (!gauge) {
      gauge = new Gauge({ name, help, labelNames: Object.keys(labels), registers: [this.registry] });
      this.#gauges.set(name, gauge);
    }
    gauge.set(labels, value);
  }
}

const COUNTERS = [
  ['sluice_steps_taken_total', 'Steps taken by this process, also those that were taken again.'],
  ['sluice_tokens_total', 'Tokens of these steps.'],
  ['sluice_spikes_total', 'Steps that stood out, seen by this process.'],
  ['sluice_skipped_updates_total', 'Updates that were left out.'],
  [
    'sluice_went_back_total',
    'Times that the run went back: for a spike, after a fault, when it was resumed.',
  ],
] as const;

/** Free and whole space of the disk that a directory lies on, looked at when it is asked for. */
export function registerDisk(registry: Registry, directory: string): void {
  const measure = (name: string, help: string, blocks: 'bavail' | 'blocks') =>
    new Gauge({
      ...{ name, help, registers: [registry] },
      collect() {
        try {
          const disk = statfsSync(directory);
          this.set(disk[blocks] * disk.bsize);
        } catch {
          this.reset();
        }
      },
    });
  measure('sluice_disk_free_bytes', 'Free space of the disk of the directory.', 'bavail');
  measure('sluice_disk_size_bytes', 'Size of that disk.', 'blocks');
}
