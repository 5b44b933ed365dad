/** Whether the workers' devices can send to each other without the host: all of them, each on a device of its own, or none. */

import { consecutiveRanges, sharedInt32 } from '@sluice/collectives';
import { type DeviceLink, type DeviceLinks, deviceLinks, type LinkEnd, type WatchLink } from '@sluice/engine';
import type { Workers } from './workers.ts';

/** How what the workers' devices hold travels. */
export interface Linked {
  /** Undefined where it goes by way of the host. */
  readonly link: DeviceLink | undefined;
  /** In words, with the reason; undefined where nothing travels, or nothing lies on devices. */
  readonly description: string | undefined;
}

const NOTHING: Linked = { link: undefined, description: undefined };
/** What a worker tells the others of its end: the version, 0 where there is none, and what names its device. */
const END_WORDS = 5;

type LinkedWorkers = Pick<Workers, 'rank' | 'size' | 'world' | 'outside'>;

const linked = new WeakMap<LinkedWorkers, { readonly links: DeviceLinks; readonly result: Linked }>();

/**
 * Links the devices of all workers, which call this together. Links last as long as their processes.
 * @throws SLUICE_E_NCCL, and what waiting for other workers throws
 */
export function linkDevices(workers: LinkedWorkers): Linked {
  const links = deviceLinks();
  if (!links || !workers.outside || workers.size === 1) return NOTHING;
  const known = linked.get(workers);
  if (known?.links === links) return known.result;
  const result = link(workers, links);
  linked.set(workers, { links, result });
  return result;
}

function link(workers: LinkedWorkers, links: DeviceLinks): Linked {
  const { rank, size, world } = workers;
  const end = links.end();
  const ends = gatherEnds(workers, 'absence' in end ? undefined : end);
  const obstacle = obstacleIn(ends, (version) => links.describe(version));
  if (obstacle !== undefined) {
    const reason = 'absence' in end ? end.absence : obstacle;
    return { link: undefined, description: `by way of the host: ${reason}` };
  }
  const name = sharedInt32(links.nameWords);
  if (rank === 0) name.set(links.newName());
  world.broadcast(name, 0).wait();
  const watch: WatchLink = (operation) => workers.outside!(operation);
  return {
    link: links.open(Int32Array.from(name), rank, size, watch),
    description: `by ${links.describe(ends[0]![0]!)}`,
  };
}

function gatherEnds({ rank, size, world }: LinkedWorkers, end: LinkEnd | undefined): Int32Array[] {
  const all = sharedInt32(size * END_WORDS);
  const ranges = consecutiveRanges(new Array<number>(size).fill(END_WORDS));
  if (end) all.set([end.version, ...end.device], ranges[rank]!.start);
  world.allGather(all, ranges).wait();
  return ranges.map((range) => all.subarray(range.start, range.end));
}

/** What is in the way of a link, if anything is; the same for all who know the same ends. */
export function obstacleIn(
  ends: readonly Int32Array[],
  describe: (version: number) => string,
): string | undefined {
  const versions = ends.map(([version]) => version!);
  const without = versions.indexOf(0);
  if (without >= 0) return `rank ${without} cannot send otherwise`;
  const other = versions.findIndex((version) => version !== versions[0]);
  if (other > 0)
    return `rank 0 has ${describe(versions[0]!)}, and rank ${other} has ${describe(versions[other]!)}`;
  const devices = ends.map((end) => end.subarray(1).join());
  const second = devices.findIndex((device, rank) => devices.indexOf(device) < rank);
  if (second >= 0)
    return `ranks ${devices.indexOf(devices[second]!)} and ${second} compute on the same device`;
  return undefined;
}
