/** How the devices of several processes send each other memory without the host, where a backend has such a way. */

import * as tf from '@tensorflow/tfjs';
import type { Activations } from './cuda/device.ts';
import type { Floats } from './floats.ts';
import type { RowArrival, RowRange } from './ops/exchangedExperts.ts';

/** Those who take part in an operation. */
export interface Peers {
  /** Ranks among all that are linked, ascending. */
  readonly ranks: readonly number[];
  /** Own place among these. */
  readonly rank: number;
  /** How they lie on hosts, where sums and gatherings are to go by hosts: host after host, equally many on each, a power of two. */
  readonly grid?: { readonly hosts: number; readonly perHost: number } | undefined;
}

/** Elements [start, end). */
export interface FlatRange {
  readonly start: number;
  readonly end: number;
}

/** Something that devices do by themselves. */
export interface LinkOperation {
  readonly ranks: readonly number[];
  readonly name: 'reduceScatter' | 'allGather' | 'allToAll' | 'barrier';
  /** That this device sends. */
  readonly bytes: number;
  /** @throws what went wrong with it */
  isDone(): boolean;
}

/** How a host waits for what devices do: it looks whether the ranks are still there. */
export type WatchLink = (operation: LinkOperation) => RowArrival;

/**
 * All ranks of an operation launch it, and launch their operations in the same order. It begins when what was asked of the device before is
 * done. `wait` of an arrival is left to the device: what is asked for afterwards is done once all has come, and the host goes on. Errors of an
 * operation, and lost peers, are told when the host next waits for the device.
 */
export interface DeviceLink {
  /** As `Group.reduceScatter`. */
  reduceScatter(
    peers: Peers,
    values: Floats,
    ranges: readonly FlatRange[],
    wire: 'float32' | 'bfloat16',
  ): RowArrival;
  /** As `Group.allGather`, of floats or of what is rounded. */
  allGather(peers: Peers, values: Floats, ranges: readonly FlatRange[]): RowArrival;
  /** As `StartExchange`; the ranges at the own place are empty. */
  startRows(
    peers: Peers,
    send: Activations,
    rowsToPeer: readonly RowRange[],
    receive: Activations,
    rowsFromPeer: readonly RowRange[],
    width: number,
  ): RowArrival;
}

/** What a process brings to a link. */
export interface LinkEnd {
  /** What sends, in words. */
  readonly description: string;
  /** Of the library that sends. */
  readonly version: number;
  /** Four words that no other device has. */
  readonly device: Int32Array;
}

export interface DeviceLinks {
  /** Who sends, in words, by its version. */
  describe(version: number): string;
  /** Or why there is none. */
  end(): LinkEnd | { readonly absence: string };
  /** Words by which the ends of one link find each other; one of them makes them. */
  newName(): Int32Array;
  readonly nameWords: number;
  /** Waits for the others. @throws SLUICE_E_NCCL */
  open(name: Int32Array, rank: number, size: number, watch: WatchLink): DeviceLink;
}

const links = new Map<string, DeviceLinks>();

export function registerDeviceLinks(backend: string, made: DeviceLinks): void {
  links.set(backend, made);
}

/** Those of the running backend; undefined where it sends by way of the host. */
export function deviceLinks(): DeviceLinks | undefined {
  return links.get(tf.getBackend());
}
