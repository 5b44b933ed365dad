/** How the ranks of a group lie on hosts, where its sums and gatherings can go by hosts. */

/** A group's ranks, host after host, equally many on each: a power of two. */
export interface HostGrid {
  readonly hosts: number;
  readonly perHost: number;
}

/** Less than this is sent at once to all: one hop is faster than three. */
export const LEAST_HIERARCHICAL_BYTES = 1 << 16;

/**
 * How a group lies on its hosts, where it can be worked by hosts: consecutive ranks on each, equally many, a power of two.
 * @param ranks of the group
 * @param hosts for each, its ranks
 */
export function hostGrid(
  ranks: readonly number[],
  hosts: readonly (readonly number[])[],
): HostGrid | undefined {
  const hostOf = new Map(hosts.flatMap((members, host) => members.map((rank) => [rank, host] as const)));
  const places = ranks.map((rank) => hostOf.get(rank));
  const perHost = places.filter((host) => host === places[0]).length;
  const isPowerOfTwo = (perHost & (perHost - 1)) === 0;
  const count = ranks.length / perHost;
  if (perHost < 2 || !isPowerOfTwo || count < 2 || !Number.isInteger(count)) return undefined;
  const isGrid =
    new Set(places).size === count &&
    places.every((host, i) => host !== undefined && host === places[i - (i % perHost)]);
  return isGrid ? { hosts: count, perHost } : undefined;
}
