/** What can be measured of a device, by its own clock, where a backend has one. */

import * as tf from '@tensorflow/tfjs';

/** Milliseconds since the timing began. */
export interface LaunchTime {
  readonly start: number;
  readonly end: number;
}

export interface LaunchTiming {
  /** Waits for all that was launched. @returns in the order of launches */
  times(): Promise<readonly LaunchTime[]>;
  /** From here on nothing is timed. */
  end(): void;
}

/** The rate of a product of square matrices. */
export interface ProductPeak {
  readonly edge: number;
  readonly gflops: number;
}

export interface DeviceMeter {
  /** The most bytes that tensors and flat memory had at a time. */
  readonly peakBytes: number;
  /** Waits for what was launched before, and times each launch from then on, of which `onLaunch` is told by the kernel's name. */
  timeLaunches(onLaunch: (kernel: string) => void): Promise<LaunchTiming>;
  /** Of activations and weights in the running precision. */
  measurePeak(): Promise<ProductPeak>;
}

const meters = new Map<string, DeviceMeter>();

export function registerDeviceMeter(backend: string, meter: DeviceMeter): void {
  meters.set(backend, meter);
}

/** That of the running backend; undefined where it computes on the host. */
export function deviceMeter(): DeviceMeter | undefined {
  return meters.get(tf.getBackend());
}
