/** What a run would be on a larger machine: its step by size, and what failures leave of its time. */

import { SluiceError } from '@sluice/core';
import { countParameters } from '@sluice/model';
import {
  counted,
  formatBytes,
  formatCount,
  formatDuration,
  formatSeconds,
  groupDigits,
  terminalTable,
} from '@sluice/observe';
import {
  bestTrial,
  type CopySettings,
  dalyInterval,
  type FailureSettings,
  type Goodput,
  type IntervalTrial,
  planMemory,
  savedBytes,
  simulateGoodput,
  type TopologyKind,
  tryIntervals,
  youngInterval,
} from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { measuredSpeed } from './measuredSpeed.ts';
import { scalePicture } from './scalePicture.ts';
import { type ScaleFlags, type SimulatedSize, simulateSize, simulateSizes } from './simulateScale.ts';

export interface SimulateFlags extends ScaleFlags {
  readonly topology: TopologyKind;
  readonly measured?: string | undefined;
  /** Mean time between failures of a device, hours. */
  readonly mtbf: number;
  readonly detect: number;
  readonly restart: number;
  readonly stall?: number | undefined;
  /** Seconds until a checkpoint is durable; from the rate when left out. */
  readonly save?: number | undefined;
  /** At which a host writes, GB/s. */
  readonly writeRate: number;
  /** Seconds of training between checkpoints; the best when left out. */
  readonly saveEvery?: number | undefined;
  /** Seconds of training between copies in memory; none when left out. */
  readonly copyEvery?: number | undefined;
  /** How long training stands still for them, seconds; from the model when left out. */
  readonly copyStall?: number | undefined;
  readonly copySurvival: number;
  readonly days: number;
  readonly seed: number;
}

/** Simulated runs that goodputs are the mean of. */
const RUNS = 8;

const DAY = 86_400;

/** Failures, and saves or copies, of one simulated run at most: they are played through one by one, failures for each interval that is tried. */
const MOST_FAILURES = 2e5;
const MOST_SAVES = 1e7;

export interface Simulation {
  readonly result: CommandResult;
  readonly picture: string;
}

/** @throws the coded errors of `simulateSize` and `measuredSpeed`; SLUICE_E_USAGE for more to play through than could be waited for */
export async function simulateRun(
  path: string,
  flags: SimulateFlags,
  log: (line: string) => void,
): Promise<Simulation> {
  const speed = flags.measured === undefined ? undefined : await measuredSpeed(flags.measured, log);
  const size = simulateSize(path, flags, speed);
  const sizes = simulateSizes(path, flags, speed);
  const failures = playFailures(size, flags);
  return {
    result: {
      text: [
        ...sizeText(size, flags.topology),
        '',
        ...sizesText(sizes),
        '',
        ...failuresText(failures, flags),
      ].join('\n'),
      json: jsonOf(size, sizes, failures, flags),
    },
    picture: scalePicture(size, sizes, failures.trials, failures.intervalSeconds),
  };
}

interface Failures {
  readonly settings: FailureSettings;
  readonly intervalSeconds: number;
  readonly trials: readonly IntervalTrial[];
  /** Without copies in memory, and with them where they are asked for. */
  readonly checkpoints: Goodput;
  readonly copies: Goodput | undefined;
}

function playFailures(size: SimulatedSize, flags: SimulateFlags): Failures {
  const settings = failureSettings(size, flags);
  const horizon = { seconds: flags.days * DAY, runs: RUNS, seed: flags.seed };
  refuseEndless(horizon.seconds, settings, flags);
  const trials = tryIntervals(settings, horizon);
  const intervalSeconds = flags.saveEvery ?? bestTrial(trials).intervalSeconds;
  const copies = copySettings(size, flags);
  return {
    ...{ settings, intervalSeconds, trials },
    checkpoints: simulateGoodput(settings, intervalSeconds, horizon),
    copies: copies && simulateGoodput({ ...settings, copies }, intervalSeconds, horizon),
  };
}

function refuseEndless(
  seconds: number,
  { mtbfSeconds }: FailureSettings,
  { days, saveEvery, copyEvery }: SimulateFlags,
): void {
  for (const [what, every, most] of [
    ['failures (--mtbf)', mtbfSeconds, MOST_FAILURES],
    ['checkpoints (--save-every)', saveEvery, MOST_SAVES],
    ['copies in memory (--copy-every)', copyEvery, MOST_SAVES],
  ] as const) {
    const count = seconds / (every ?? Number.POSITIVE_INFINITY);
    if (count <= most) continue;
    const message = `In ${days} days (--days) there would be ${count.toPrecision(3)} ${what}, and ${most} at most are played through.`;
    throw new SluiceError('SLUICE_E_USAGE', message, { details: { count, most } });
  }
}

/** A save stands still for a probe (the forward pass of a grain) and a copy of the state; then it is written beside. */
function failureSettings(
  { config, device, cluster, steps }: SimulatedSize,
  flags: SimulateFlags,
): FailureSettings {
  const { devices, mtbf, detect, restart, writeRate } = flags;
  const grains = config.batch.sequences / config.batch.grainSequences / devices;
  const bytes = savedBytes(config);
  const probe = steps.flat.compute / grains / 3;
  const stallSeconds = flags.stall ?? probe + bytes / device.stagingBytesPerSecond;
  return {
    mtbfSeconds: (3600 * mtbf) / devices,
    ...{ detectSeconds: detect, restartSeconds: restart, stallSeconds },
    durableSeconds: flags.save ?? stallSeconds + (bytes * cluster.devicesPerHost) / (1e9 * writeRate),
  };
}

/** A copy is staged as a checkpoint is, and goes to another host as well, while training stands still. */
function copySettings(
  { config, device, cluster }: SimulatedSize,
  { copyEvery, copyStall, copySurvival }: SimulateFlags,
): CopySettings | undefined {
  if (copyEvery === undefined) return undefined;
  const bytes = savedBytes(config);
  const link = cluster.between.bytesPerSecond / cluster.devicesPerHost;
  const stallSeconds = copyStall ?? bytes / device.stagingBytesPerSecond + bytes / link;
  return { intervalSeconds: copyEvery, stallSeconds, survival: copySurvival };
}

function jsonOf(
  size: SimulatedSize,
  sizes: readonly SimulatedSize[],
  { settings, intervalSeconds, trials, checkpoints, copies }: Failures,
  { topology }: SimulateFlags,
): Record<string, unknown> {
  const { devices, hosts, config, device, cluster, steps } = size;
  const step = steps[topology];
  return {
    ...{ devices, hosts, topology, device: device.name, cluster },
    stepSeconds: step.total,
    exposedShare: step.communicate / step.total,
    goodput: (copies ?? checkpoints).goodput,
    tokensPerSecond: tokensOf(config) / step.total,
    memoryBytes: planMemory(config, device.memoryBytes, cluster.devicesPerHost).total,
    ...{ steps, expertParallel: config.parallel.expertParallel, sequences: config.batch.sequences },
    sizes: sizes.map((one) => ({ devices: one.devices, hosts: one.hosts, steps: one.steps })),
    failures: {
      ...settings,
      interval: {
        ...{ usedSeconds: intervalSeconds, bestSeconds: bestTrial(trials).intervalSeconds, trials },
        ...{ youngSeconds: youngInterval(settings), dalySeconds: dalyInterval(settings) },
      },
      ...{ checkpoints, copies: copies ?? null },
    },
  };
}

function tokensOf({ batch, data }: SimulatedSize['config']): number {
  return batch.sequences * data.sequenceLength;
}

function sizeText(
  { devices, hosts, config, device, cluster, steps }: SimulatedSize,
  topology: TopologyKind,
): string[] {
  const { within, between, devicesPerHost } = cluster;
  const { total } = planMemory(config, device.memoryBytes, cluster.devicesPerHost);
  const { expertParallel } = config.parallel;
  const step = steps[topology];
  const parts = [
    ['compute', step.compute],
    ['new parameters', step.exposed.gather],
    ['rows to experts and back', step.exposed.exchange],
    ['gradients', step.exposed.reduce],
    ['agreed numbers', step.exposed.agree],
    ...(config.parallel.synchronize
      ? [['bringing replicas together', step.exposed.synchronize] as const]
      : []),
    ['optimizer', step.optimizer],
    ['total', step.total],
  ] as const;
  return [
    `${groupDigits(devices)} × ${device.name} (${device.source}), ${devicesPerHost} a host, ${counted(Math.ceil(hosts), 'host')}` +
      `${expertParallel > 1 ? `, ${expertParallel} to a set of experts` : ''}`,
    `within a host ${rate(within.bytesPerSecond)} a device; between hosts ${rate(between.bytesPerSecond)} a host, ` +
      `${formatSeconds(between.latencySeconds)} latency, ${formatSeconds(between.messageSeconds)} a message`,
    `${formatCount(countParameters(config.model).total)} parameters, ${groupDigits(config.batch.sequences)} sequences of ${config.data.sequenceLength} tokens a step`,
    `memory of a worker: ${formatBytes(total)}, which ${total <= device.memoryBytes ? 'fits' : 'does not fit'}`,
    '',
    terminalTable(
      parts.map(([name, seconds]) => [name, formatSeconds(seconds), percent(seconds / step.total)]),
      { header: [`time of a step, ${topology}`, '', ''], align: ['left', 'right', 'right'] },
    ),
    `${formatCount(tokensOf(config) / step.total)} tokens/s; ${percent(step.communicate / step.total)} exposed communication`,
  ];
}

function sizesText(sizes: readonly SimulatedSize[]): string[] {
  const rows = sizes.map(({ devices, hosts, config, steps: { flat, hierarchical } }) => [
    groupDigits(devices),
    groupDigits(Math.ceil(hosts)),
    ...[flat, hierarchical].flatMap((step) => [
      formatSeconds(step.total),
      percent(step.communicate / step.total),
      formatCount(step.messages),
    ]),
    formatCount(tokensOf(config) / Math.min(flat.total, hierarchical.total)),
  ]);
  const header = [
    ...['devices', 'hosts', 'flat', 'exposed', 'messages'],
    ...['hierarchical', 'exposed', 'messages', 'tokens/s'],
  ];
  return [terminalTable(rows, { header, align: header.map(() => 'right' as const) })];
}

function failuresText(
  { settings, intervalSeconds, trials, checkpoints, copies }: Failures,
  { days, saveEvery, copyEvery }: SimulateFlags,
): string[] {
  const best = bestTrial(trials);
  const row = (name: string, { goodput, lost, down, saving }: Goodput) => [
    name,
    ...[goodput, lost, down, saving].map(percent),
  ];
  const rows = [
    row('checkpoints', checkpoints),
    ...(copies ? [row(`copies in memory every ${formatDuration(copyEvery!)}`, copies)] : []),
  ];
  const header = ['goes on from', 'goodput', 'taken again', 'down', 'saving'];
  return [
    `a failure every ${formatDuration(settings.mtbfSeconds)}, ${checkpoints.failures.toFixed(0)} in ${days} days; ` +
      `known after ${formatDuration(settings.detectSeconds)}, going on ${formatDuration(settings.restartSeconds)} later`,
    `a checkpoint: training stands still for ${formatSeconds(settings.stallSeconds)}, durable after ${formatSeconds(settings.durableSeconds)}`,
    `between checkpoints: best ${formatDuration(best.intervalSeconds)} (Young ${formatDuration(youngInterval(settings))}, Daly ${formatDuration(dalyInterval(settings))})` +
      `${saveEvery === undefined ? '' : `; here ${formatDuration(intervalSeconds)}`}`,
    terminalTable(rows, { header, align: ['left', 'right', 'right', 'right', 'right'] }),
  ];
}

function rate(bytesPerSecond: number): string {
  const giga = bytesPerSecond / 1e9;
  return giga < 1 ? `${Number((1000 * giga).toPrecision(3))} MB/s` : `${Number(giga.toPrecision(3))} GB/s`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
