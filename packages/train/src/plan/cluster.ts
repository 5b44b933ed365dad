/** Devices, the hosts that they are in, and what connects them. */

import { LEAST_HIERARCHICAL_BYTES } from '@sluice/collectives';

export interface Link {
  readonly bytesPerSecond: number;
  /** From one end to the other. */
  readonly latencySeconds: number;
  /** What sending and receiving one message costs, whatever its length. */
  readonly messageSeconds: number;
}

export interface Cluster {
  readonly devicesPerHost: number;
  /** Between two devices of a host; each device's own. */
  readonly within: Link;
  /** Between hosts; a host's devices share it. */
  readonly between: Link;
}

/**
 * What a collective operation of many hosts does: every worker with every other (flat), or first within each host, then between
 * hosts, and back (hierarchical).
 */
export const TOPOLOGIES = ['flat', 'hierarchical'] as const;
export type TopologyKind = (typeof TOPOLOGIES)[number];

/** All workers in one host, whose messages cost nothing but their bytes. */
export function oneHost(
  { linkBytesPerSecond }: { readonly linkBytesPerSecond: number },
  workers: number,
): Cluster {
  const link = { bytesPerSecond: linkBytesPerSecond, latencySeconds: 0, messageSeconds: 0 };
  return { devicesPerHost: workers, within: link, between: link };
}

/** Workers that take part in an operation together, as many on each host. */
export interface Members {
  readonly size: number;
  readonly perHost: number;
}

/**
 * Of `size` workers that are `stride` ranks apart.
 * @param devices of the whole cluster
 */
export function membersOf(
  size: number,
  stride: number,
  { devicesPerHost }: Pick<Cluster, 'devicesPerHost'>,
): Members {
  return { size, perHost: Math.max(1, Math.min(size, Math.floor(devicesPerHost / stride))) };
}

/** What one member sends in an operation, and how long that takes. */
export interface OperationCost {
  readonly seconds: number;
  /** Of these, what bytes take on a link. */
  readonly transferSeconds: number;
  readonly bytesWithin: number;
  readonly bytesBetween: number;
  readonly messages: number;
}

const NOTHING: OperationCost = {
  seconds: 0,
  transferSeconds: 0,
  bytesWithin: 0,
  bytesBetween: 0,
  messages: 0,
};

/**
 * Of what is on the wire one way, the share that is payload: 1448 of 1514 bytes of TCP over Ethernet, and for every second frame of the
 * other way an acknowledgement of 66. Of other links it is about the same.
 */
const PAYLOAD_SHARE = 1448 / (1514 + 33);

/** More than this for a member is sent once it has said that there is room, and is over once it has said that all has come. */
const LEAST_ASKED_BYTES = 2 ** 14;

interface Sent {
  readonly bytes: number;
  readonly messages: number;
}

/** How often what is sent to a member, or something about it, is on its way from one end of a link to the other, one after the other. */
function tripsOf({ bytes, messages }: Sent): number {
  return bytes / messages > LEAST_ASKED_BYTES ? 3 : 1;
}

/**
 * One round: each member sends to others in its host and in other hosts, at the same time.
 * @param isDirect whether members of a host hand each other bytes without asking
 */
function roundCost(
  { devicesPerHost, within, between }: Cluster,
  inside: Sent,
  outside: Sent,
  isDirect = false,
): OperationCost {
  const isFar = outside.messages > 0;
  const messages = inside.messages + outside.messages;
  if (messages === 0) return NOTHING;
  // All devices of a host are in the same operation, or in one like it.
  const outsideRate = (PAYLOAD_SHARE * between.bytesPerSecond) / devicesPerHost;
  const transferSeconds = Math.max(
    inside.bytes / within.bytesPerSecond,
    isFar ? outside.bytes / outsideRate : 0,
  );
  const overhead = inside.messages * within.messageSeconds + outside.messages * between.messageSeconds;
  const near = isDirect ? 1 : tripsOf(inside);
  const latency = isFar ? tripsOf(outside) * between.latencySeconds : near * within.latencySeconds;
  return {
    seconds: latency + transferSeconds + overhead,
    transferSeconds,
    bytesWithin: inside.bytes,
    bytesBetween: outside.bytes,
    messages,
  };
}

/** Operations one after the other. */
export function sumOf(...costs: readonly OperationCost[]): OperationCost {
  const total = (part: keyof OperationCost) => costs.reduce((sum, cost) => sum + cost[part], 0);
  return {
    seconds: total('seconds'),
    transferSeconds: total('transferSeconds'),
    bytesWithin: total('bytesWithin'),
    bytesBetween: total('bytesBetween'),
    messages: total('messages'),
  };
}

/**
 * Partial sums of a buffer to the owners of its slices; `allGather` of the slices is the same the other way round.
 * @param bytes of the whole buffer
 */
export function reduceScatterCost(
  cluster: Cluster,
  { size, perHost }: Members,
  bytes: number,
  kind: TopologyKind,
): OperationCost {
  if (size === 1) return NOTHING;
  const hosts = size / perHost;
  if (kind === 'flat' || hosts === 1 || bytes < LEAST_HIERARCHICAL_BYTES) {
    return roundCost(
      cluster,
      { bytes: (bytes * (perHost - 1)) / size, messages: perHost - 1 },
      { bytes: (bytes * (size - perHost)) / size, messages: size - perHost },
    );
  }
  const none = { bytes: 0, messages: 0 };
  const own = bytes / perHost;
  return sumOf(
    roundCost(cluster, { bytes: own * (perHost - 1), messages: perHost - 1 }, none),
    roundCost(cluster, none, { bytes: (own * (hosts - 1)) / hosts, messages: hosts - 1 }),
  );
}

/** As `reduceScatterCost`, and the sums to everybody. */
export function allReduceCost(
  cluster: Cluster,
  members: Members,
  bytes: number,
  kind: TopologyKind,
): OperationCost {
  const half = reduceScatterCost(cluster, members, bytes, kind);
  return sumOf(half, half);
}

/** @param bytes that each member has for all members together, itself included */
export function allToAllCost(cluster: Cluster, { size, perHost }: Members, bytes: number): OperationCost {
  return roundCost(
    cluster,
    { bytes: (bytes * (perHost - 1)) / size, messages: perHost - 1 },
    { bytes: (bytes * (size - perHost)) / size, messages: size - perHost },
    true,
  );
}
