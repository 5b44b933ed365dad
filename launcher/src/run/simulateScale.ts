/** Steps of a run on clusters of any size, from its real schedule. */

import {
  type Cluster,
  type Device,
  type DeviceName,
  deviceOf,
  type RunConfig,
  type Speed,
  type StepTimes,
  scheduleOf,
  speedOf,
  stepTimes,
  TOPOLOGIES,
  type TopologyKind,
} from '@sluice/train';
import { loadModel, type ModelFlags } from './loadModel.ts';
import type { MeasuredSpeed } from './measuredSpeed.ts';
import { plannedConfig } from './planModel.ts';
import { fittingExpertParallel, validateConfig } from './validate.ts';

export interface ScaleFlags extends Pick<ModelFlags, 'set'> {
  readonly devices: number;
  readonly device: DeviceName;
  readonly devicesPerHost?: number | undefined;
  readonly expertParallel?: number | undefined;
  readonly batch?: number | undefined;
  readonly grain?: number | undefined;
  readonly sequenceLength?: number | undefined;
  /** Between hosts, of a host, Gbit/s. */
  readonly link?: number | undefined;
  /** Between hosts, microseconds. */
  readonly latency?: number | undefined;
  /** Of a message between hosts, microseconds. */
  readonly message?: number | undefined;
  /** Rows of the busiest worker of a set of experts, against the mean. */
  readonly imbalance?: number | undefined;
}

/** Sequences of each device where the file is that of a model alone. */
const SEQUENCES_PER_DEVICE = 16;

/** One size of the cluster. */
export interface SimulatedSize {
  readonly devices: number;
  readonly hosts: number;
  readonly config: RunConfig;
  readonly device: Device;
  readonly cluster: Cluster;
  readonly steps: Readonly<Record<TopologyKind, StepTimes>>;
}

/**
 * @param speed measured, in place of what is known of the device
 * @throws the coded errors of `loadYamlConfig` and `validateConfig`
 */
export function simulateSize(path: string, flags: ScaleFlags, speed?: MeasuredSpeed): SimulatedSize {
  const config = configAt(path, flags);
  validateConfig(config);
  const { devices } = flags;
  const device = deviceAt(flags);
  const cluster = clusterOf(device, flags);
  const usual = speedOf(config, device);
  const used: Speed = speed ? { ...usual, ...speed(config) } : usual;
  const step = (kind: TopologyKind) =>
    stepTimes(scheduleOf(config, cluster, kind, flags.imbalance), config, used);
  const [flat, hierarchical] = TOPOLOGIES.map(step) as [StepTimes, StepTimes];
  return {
    ...{ devices, hosts: devices / cluster.devicesPerHost, config, device, cluster },
    steps: { flat, hierarchical },
  };
}

/** Sizes from two devices on (one, where there is only that), each twice the one before, and the size itself; all with as much work for each device. */
export function simulateSizes(path: string, flags: ScaleFlags, speed?: MeasuredSpeed): SimulatedSize[] {
  const sizes: SimulatedSize[] = [];
  const batch = configAt(path, flags).batch.sequences;
  for (let devices = Math.min(2, flags.devices); devices <= flags.devices; devices *= 2) {
    const share = (batch * devices) / flags.devices;
    sizes.push(simulateSize(path, { ...flags, devices, batch: share }, speed));
  }
  return sizes;
}

/** The batch grows with the devices, where no other is asked for: each computes as many sequences as in the file. */
function configAt(path: string, flags: ScaleFlags): RunConfig {
  const { devices, batch, expertParallel, sequenceLength, grain, set } = flags;
  const { run } = loadModel(path, { set }, SEQUENCES_PER_DEVICE);
  const perDevice = run.batch.sequences / run.parallel.workers;
  const wanted = expertParallel ?? run.parallel.expertParallel;
  const config = plannedConfig(path, {
    ...{ workers: devices, batch: batch ?? perDevice * devices, sequenceLength, grain },
    ...{ expertParallel: fittingExpertParallel(wanted, devices), set },
  });
  return { ...config, parallel: { ...config.parallel, lanes: lanesFor(config, devices) } };
}

/** As many lanes as the run has: more where there are more workers, fewer where the batch has fewer grains. */
function lanesFor({ parallel, batch }: RunConfig, devices: number): number {
  const grains = batch.sequences / batch.grainSequences;
  let { lanes } = parallel;
  while (lanes > devices && grains % lanes !== 0) lanes /= 2;
  return Math.max(lanes, devices);
}

/** A machine's speed takes a moment to measure, and is shared by the devices that stand for it. */
const known = new Map<string, Device>();

function deviceAt({ device: name, devices, devicesPerHost = 1 }: ScaleFlags): Device {
  const sharing = Math.min(devices, devicesPerHost);
  const key = `${name} ${name === 'cpu' ? sharing : ''}`;
  const device = known.get(key) ?? deviceOf(name, sharing);
  known.set(key, device);
  return device;
}

function clusterOf(device: Device, flags: ScaleFlags): Cluster {
  const { devicesPerHost, within, between } = device.cluster;
  const { link, latency, message } = flags;
  return {
    devicesPerHost: Math.min(flags.devices, flags.devicesPerHost ?? devicesPerHost),
    within: { bytesPerSecond: device.linkBytesPerSecond, ...within },
    between: {
      bytesPerSecond: link === undefined ? between.bytesPerSecond : (link * 1e9) / 8,
      latencySeconds: latency === undefined ? between.latencySeconds : latency / 1e6,
      messageSeconds: message === undefined ? between.messageSeconds : message / 1e6,
    },
  };
}
