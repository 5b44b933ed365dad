/** What of a worker's memory is a GPU's, and what the host's beside it, from what `GradientMemory` and the link between GPUs take. */

import { modelParameters } from '@sluice/model';
import type { RunConfig } from '../config.ts';
import { paddedSize } from '../flatValues.ts';
import { type Members, membersOf } from './cluster.ts';
import { gradientCopies, heldElements, replicas } from './held.ts';

/** Bytes of partial sums of gradients, by where they lie. */
export interface PlacedGradients {
  readonly onDevice: number;
  readonly onHost: number;
}

/**
 * Where partial sums lie, as `GradientSums` asks for memory: those of the first lane, source after source, and then level after level.
 * @param bytesLeft of a device, beside parameters, moments and what passes need; as many as are wanted when left out
 */
export function placeGradients(config: RunConfig, bytesLeft = Number.POSITIVE_INFINITY): PlacedGradients {
  const { gradientMiB, expertParallel } = config.parallel;
  const held = heldElements(config);
  const spaces = [
    { bytes: 4 * held.replicated, sources: 1 },
    ...(config.model.experts ? [{ bytes: 4 * held.expert, sources: expertParallel }] : []),
  ];
  let room = gradientMiB === undefined ? bytesLeft : gradientMiB * 2 ** 20;
  const placed = { onDevice: 0, onHost: 0 };
  const place = (bytes: number, isNeeded: boolean) => {
    const fits = bytes <= room;
    if (fits || isNeeded) placed.onDevice += bytes;
    else placed.onHost += bytes;
    if (fits) room -= bytes;
  };
  for (const { bytes, sources } of spaces)
    for (let source = 0; source < sources; source++) place(bytes, source === 0);
  for (let level = 1; level < gradientCopies(config); level++)
    for (const { bytes, sources } of spaces) place(bytes * sources, false);
  return placed;
}

/**
 * What arrives of a stage's gradients from the other workers, to be added up, and the sums of a host that go on to others; where it
 * travels in bfloat16, also what is sent and what arrives in that form.
 * @param devicesPerHost all workers in one host when left out
 */
export function linkBytes(config: RunConfig, devicesPerHost = config.parallel.workers): number {
  const { expertParallel } = config.parallel;
  const [shared, strides] = [replicas(config), { replicated: 1, expert: expertParallel }];
  const perElement = config.parallel.gradients === 'bfloat16' ? 4 + 2 + 2 : 4;
  const stages = new Map<string, number>();
  const shard = { rank: 0, size: expertParallel };
  for (const { placement, stage, size } of modelParameters(config.model, shard)) {
    const name = `${placement} ${stage}`;
    const members = membersOf(shared[placement], strides[placement], { devicesPerHost });
    stages.set(name, (stages.get(name) ?? 0) + paddedSize(size) * linkBytesOfElement(members, perElement));
  }
  return Math.max(...stages.values());
}

/** @param perElement bytes of what one element takes that arrives */
function linkBytesOfElement({ size, perHost }: Members, perElement: number): number {
  const hosts = size / perHost;
  if (hosts === 1 || perHost === 1) return (perElement * (size - 1)) / size;
  const arriving = (perHost - 1) / perHost + (hosts - 1) / size;
  return perElement * arriving + 4 / perHost;
}

const MIB = 2 ** 20;

/**
 * What NCCL 2.30 allocates by its defaults on each channel to a GPU of the same host: a buffer of each protocol for what comes from there,
 * NCCL_BUFFSIZE of 4 MiB, LL of 8 · 512 lines of 16 bytes in 8 steps, LL128 of 120 · 640 words of 8 bytes in 8 steps (src/init.cc,
 * src/include/device.h), and what both sides watch, each in multiples of 2 MiB (src/transport/p2p.cc).
 */
const NCCL_CHANNEL_BYTES =
  2 * MIB * (Math.ceil((4 * MIB + 8 * 512 * 16 * 8 + 120 * 640 * 8 * 8) / (2 * MIB)) + 1);

/**
 * Channels to each GPU of the host. NCCL takes two for each NVLink, in powers of two, and no more than it has for rings, in powers of two
 * (src/graph/paths.cc); of the twelve links of an A100 and the eighteen of an H100 it reports "24 coll channels … 32 p2p channels per peer"
 * (NVIDIA/nccl, issue 1781).
 */
const NCCL_CHANNELS = 32;

/**
 * An estimate of what NCCL takes for its connections to GPUs of the same host, over which all send to each other. What connects hosts is
 * not in it: that has one buffer for all, whose size depends on network cards.
 */
export function ncclBytes({ parallel }: RunConfig, devicesPerHost = parallel.workers): number {
  return (Math.min(parallel.workers, devicesPerHost) - 1) * NCCL_CHANNELS * NCCL_CHANNEL_BYTES;
}
