/** Predicts what a run needs, from the file of a model or of a run. */

import { parseConfig } from '@sluice/core';
import type { BackendName, Precision } from '@sluice/engine';
import { counted, formatBytes, formatCount, formatSeconds, terminalTable } from '@sluice/observe';
import {
  type Device,
  type DeviceName,
  deviceOf,
  flopsPerSecondOf,
  type Plan,
  planRun,
  RunConfig,
  sequencesAt,
} from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { loadModel, type ModelFlags } from './loadModel.ts';
import { fittingExpertParallel, validateConfig } from './validate.ts';

export interface PlanFlags extends ModelFlags {
  readonly workers?: number | undefined;
  readonly expertParallel?: number | undefined;
  readonly device: DeviceName;
  readonly sequenceLength?: number | undefined;
  readonly batch?: number | undefined;
  readonly grain?: number | undefined;
  readonly backend?: BackendName | undefined;
  readonly precision?: Precision | undefined;
}

/**
 * @throws the coded errors of `loadYamlConfig` and `validateConfig`
 */
export function planModel(path: string, flags: PlanFlags): CommandResult {
  const config = plannedConfig(path, flags);
  validateConfig(config);
  const device = deviceOf(flags.device, config.parallel.workers);
  const plan = planRun(config, device);
  const fits = plan.memory.total <= device.memoryBytes;
  const first = firstStep(config, device);
  const { workers, expertParallel } = config.parallel;
  const { sequences, grainSequences } = config.batch;
  const { sequenceLength } = config.data;
  const layout = { workers, expertParallel, sequences, grainSequences, sequenceLength };
  return {
    text: [
      describePlan(plan, { ...device, flopsPerSecond: flopsPerSecondOf(config, device) }, layout, fits),
      ...(first ? [describeFirst(first)] : []),
    ].join('\n'),
    json: { ...plan, fits, device, ...layout, memoryBytes: plan.memory.total, ...(first && { first }) },
  };
}

/** @throws the coded errors of `loadYamlConfig` */
export function plannedConfig(path: string, flags: Omit<PlanFlags, 'device'>): RunConfig {
  const { run, isAlone } = loadModel(path, flags);
  const { data, parallel, batch } = run;
  const workers = flags.workers ?? parallel.workers;
  const expertParallel = flags.expertParallel ?? fittingExpertParallel(parallel.expertParallel, workers);
  // A model alone has no lanes that a number of workers could fail to divide.
  const lanes = isAlone ? Math.max(parallel.lanes, workers) : parallel.lanes;
  const planned = {
    ...run,
    backend: flags.backend ?? run.backend,
    precision: flags.precision ?? run.precision,
    data: { ...data, sequenceLength: flags.sequenceLength ?? data.sequenceLength },
    parallel: { ...parallel, workers, expertParallel, lanes },
    batch: {
      sequences: flags.batch ?? batch.sequences,
      grainSequences: flags.grain ?? batch.grainSequences,
      // Another batch than the run's is planned for as it is.
      ...(flags.batch === undefined && { ramp: batch.ramp }),
    },
  };
  return parseConfig(planned, RunConfig, path);
}

/** The first step of a run whose batch grows. */
interface FirstStep extends Pick<Plan, 'seconds' | 'tokensPerSecond'> {
  readonly sequences: number;
}

function firstStep(config: RunConfig, device: Device): FirstStep | undefined {
  if (!config.batch.ramp) return undefined;
  const sequences = sequencesAt(config, 1);
  const { seconds, tokensPerSecond } = planRun({ ...config, batch: { ...config.batch, sequences } }, device);
  return { sequences, seconds, tokensPerSecond };
}

function describeFirst({ sequences, seconds, tokensPerSecond }: FirstStep): string {
  return (
    `the batch grows: in the first step ${sequences} sequences, ${formatSeconds(seconds.total)}, ` +
    `${formatCount(tokensPerSecond)} tokens/s`
  );
}

type Layout = Readonly<
  Record<'workers' | 'expertParallel' | 'sequences' | 'grainSequences' | 'sequenceLength', number>
>;

function describePlan(plan: Plan, device: Device, layout: Layout, fits: boolean): string {
  const { memory, hostMemory, traffic, seconds } = plan;
  const bytes = (values: object) =>
    Object.entries(values).map(([name, value]) => [LABELS[name] ?? name, formatBytes(value as number)]);
  const times = Object.entries(seconds).map(([name, value]) => [LABELS[name] ?? name, formatSeconds(value)]);
  const table = (title: string, rows: string[][]) =>
    terminalTable(rows, { header: [title, ''], align: ['left', 'right'] });
  const verdict = fits
    ? `fits into ${formatBytes(device.memoryBytes)}`
    : `does not fit into ${formatBytes(device.memoryBytes)}`;
  return [
    `${layout.workers} × ${device.name} (${device.source})${layout.expertParallel > 1 ? `, ${layout.expertParallel} of them to a set of experts` : ''}`,
    `products at ${Number((device.flopsPerSecond / 1e12).toPrecision(3))} TFLOP/s at most`,
    `${counted(layout.sequences, 'sequence')} of ${layout.sequenceLength} tokens a step, ${layout.grainSequences} a grain`,
    '',
    table('memory of a worker', bytes(memory)),
    verdict,
    '',
    ...(hostMemory ? [table('of the host beside it', bytes(hostMemory)), ''] : []),
    table('sent by a worker, a step', bytes(traffic)),
    '',
    table('time of a step', times),
    `${formatCount(plan.tokensPerSecond)} tokens/s, utilization ${(100 * plan.utilization).toFixed(1)} %`,
  ].join('\n');
}

const LABELS: Readonly<Record<string, string>> = {
  scratch: 'scratch of delta rules',
  expertExchange: 'exchange with experts',
  gradientExchange: 'gradients that arrive',
  nccl: 'NCCL, an estimate',
  outerOptimizer: 'outer optimizer',
  outerGradients: 'differences on their way',
  synchronize: 'bringing replicas together',
  mostSynchronize: 'of it at most in one step',
  staging: 'checkpoint being written',
  snapshots: 'states to go back to',
  reduceScatter: 'gradients',
  allGather: 'parameters',
  allToAll: 'rows to experts and back',
};
