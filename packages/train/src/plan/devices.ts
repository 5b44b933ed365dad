/** What a plan knows of devices: published figures, and for this machine's CPU measured ones. */

import { availableCores, availableMemory } from '@sluice/core';
import {
  BACKENDS,
  measureSgemmPeak,
  nativeCore,
  type Precision,
  precisionOn,
  setThreads,
} from '@sluice/engine';
import type { RunConfig } from '../config.ts';
import type { Cluster, Link } from './cluster.ts';

export interface Device {
  readonly name: string;
  /** Bytes of memory of one worker. */
  readonly memoryBytes: number;
  /** Operations a second of large single-precision products. */
  readonly flopsPerSecond: number;
  /** The same of the backend `cuda`, by the precision of activations. */
  readonly cudaFlopsPerSecond?: Readonly<Record<Precision, number>>;
  /** Share of that which a training step reaches while it computes. */
  readonly efficiency: number;
  readonly memoryBytesPerSecond: number;
  /** What a worker can send within its host, while it receives as much. */
  readonly linkBytesPerSecond: number;
  /** At which its memory is copied to the host's, where checkpoints are staged. */
  readonly stagingBytesPerSecond: number;
  /** How it usually comes: devices of a host, and what connects them with each other and with other hosts. */
  readonly cluster: Pick<Cluster, 'devicesPerHost'> & {
    readonly within: Omit<Link, 'bytesPerSecond'>;
    readonly between: Link;
  };
  /** Where the figures are from. */
  readonly source: string;
}

const GIB = 2 ** 30;

/**
 * Figures of the makers' data sheets. TensorFlow computes in single precision, whose matrix products run on TF32 units on these devices
 * (dense rate); `cuda` in bf16 on tensor cores, or in single precision without them.
 */
const NEAR = { latencySeconds: 5e-6, messageSeconds: 1e-6 };
const FAR = { latencySeconds: 10e-6, messageSeconds: 2e-6 };

/** Eight devices a host, each with a network card of its own; latencies and costs of messages are assumptions. */
function hostOfEight(gigabitsPerDevice: number): Device['cluster'] {
  return {
    devicesPerHost: 8,
    within: NEAR,
    between: { bytesPerSecond: (8 * gigabitsPerDevice * 1e9) / 8, ...FAR },
  };
}

/** Over the bus to the host, PCIe of the fourth generation: what copies reach of its 32 GB/s. */
const BUS_BYTES_PER_SECOND = 25e9;

const ACCELERATORS = {
  h100: {
    memoryBytes: 80e9,
    flopsPerSecond: 494.5e12,
    cudaFlopsPerSecond: { bf16: 989e12, f32: 67e12 },
    memoryBytesPerSecond: 3.35e12,
    linkBytesPerSecond: 450e9,
    stagingBytesPerSecond: BUS_BYTES_PER_SECOND,
    cluster: hostOfEight(400),
    source: 'data sheet of the H100 SXM, NVLink within a host',
  },
  h200: {
    memoryBytes: 141e9,
    flopsPerSecond: 494.5e12,
    cudaFlopsPerSecond: { bf16: 989e12, f32: 67e12 },
    memoryBytesPerSecond: 4.8e12,
    linkBytesPerSecond: 450e9,
    stagingBytesPerSecond: BUS_BYTES_PER_SECOND,
    cluster: hostOfEight(400),
    source: 'data sheet of the H200 SXM, NVLink within a host',
  },
  a100: {
    memoryBytes: 80e9,
    flopsPerSecond: 156e12,
    cudaFlopsPerSecond: { bf16: 312e12, f32: 19.5e12 },
    memoryBytesPerSecond: 2.04e12,
    linkBytesPerSecond: 300e9,
    stagingBytesPerSecond: BUS_BYTES_PER_SECOND,
    cluster: hostOfEight(200),
    source: 'data sheet of the A100 SXM 80GB, NVLink within a host',
  },
} as const satisfies Record<string, Omit<Device, 'name' | 'efficiency'>>;

export const DEVICE_NAMES = ['h100', 'h200', 'a100', 'cpu'] as const;

export type DeviceName = (typeof DEVICE_NAMES)[number];

/** An assumption: what well-tuned trainers reach on large models. */
const ACCELERATOR_EFFICIENCY = 0.45;

/** What `sluice bench step` shows on the native backend, within its spread. */
const CPU_EFFICIENCY = 0.7;

/** Of one core's worth of memory traffic, and of copies between processes; assumptions, as no quick measure is steady. */
const CPU_BYTES_PER_SECOND = 10e9;
const CPU_LINK_BYTES_PER_SECOND = 2e9;

/** Machines of one worker each, connected by Ethernet of 10 Gbit/s; what a message costs over TCP is measured (docs/scale.md). */
const CPU_CLUSTER: Device['cluster'] = {
  devicesPerHost: 1,
  within: { latencySeconds: 50e-6, messageSeconds: 20e-6 },
  between: { bytesPerSecond: 10e9 / 8, latencySeconds: 100e-6, messageSeconds: 50e-6 },
};

/** Of TensorFlow.js's plain backend, which serves where the C++ core is not built; the order of magnitude. */
const PLAIN_FLOPS_PER_SECOND = 1e9;

/** Operations a second of large products of a run. */
export function flopsPerSecondOf({ backend, precision }: RunConfig, device: Device): number {
  const ofCuda = backend === 'cuda' && device.cudaFlopsPerSecond;
  return ofCuda ? ofCuda[precisionOn(BACKENDS.cuda, precision)] : device.flopsPerSecond;
}

function measuredFlopsPerSecond(): number {
  if (!nativeCore()) return PLAIN_FLOPS_PER_SECOND;
  setThreads(availableCores().count);
  return measureSgemmPeak(1) * 1e9;
}

/**
 * A device by its name. `cpu` is this machine, shared by the workers: its peak is measured, which takes about a second.
 * @param workers that share it
 */
export function deviceOf(name: DeviceName, workers: number): Device {
  if (name !== 'cpu') return { name, efficiency: ACCELERATOR_EFFICIENCY, ...ACCELERATORS[name] };
  return {
    name,
    memoryBytes: availableMemory() / workers,
    flopsPerSecond: measuredFlopsPerSecond() / workers,
    efficiency: CPU_EFFICIENCY,
    memoryBytesPerSecond: CPU_BYTES_PER_SECOND / workers,
    linkBytesPerSecond: CPU_LINK_BYTES_PER_SECOND / workers,
    stagingBytesPerSecond: CPU_BYTES_PER_SECOND / 2 / workers,
    cluster: CPU_CLUSTER,
    source: `this machine: ${availableCores().count} cores, ${Math.round(availableMemory() / GIB)} GiB, its product of 2048³ measured`,
  };
}
