/** Which worker runs on which host. The weights do not depend on it; the speed does. */

import { SluiceError } from '@sluice/core';
import type { Host } from './host.ts';

/** What placing workers asks of a host; one that has not come yet has as much. */
interface Place {
  readonly name: string;
  readonly slots?: number | undefined;
}

/** Workers of one host: consecutive ranks. */
export interface Placement<Where extends Place = Host> {
  readonly host: Where;
  readonly ranks: readonly number[];
}

/**
 * Shares the workers out as evenly as the hosts' slots allow. Ranks ascend with the hosts, so that neighbours, which share
 * experts, are on one host wherever they can be. Hosts without a worker are left out.
 * @throws SLUICE_E_HOSTS_TOO_FEW when there are fewer slots than workers
 */
export function placeWorkers<Where extends Place>(
  hosts: readonly Where[],
  workers: number,
): Placement<Where>[] {
  const counts = hosts.map(() => 0);
  for (let placed = 0; placed < workers; placed++) {
    const open = hosts.flatMap(({ slots }, i) =>
      counts[i]! < (slots ?? Number.POSITIVE_INFINITY) ? [i] : [],
    );
    if (open.length === 0) throw tooFewSlots(hosts, workers);
    const emptiest = open.reduce((best, i) => (counts[i]! < counts[best]! ? i : best));
    counts[emptiest]!++;
  }
  let rank = 0;
  return hosts
    .map((host, i) => ({ host, ranks: Array.from({ length: counts[i]! }, () => rank++) }))
    .filter(({ ranks }) => ranks.length > 0);
}

/** On how many workers a run is spread, and how many share one set of experts. */
export interface WorldSize {
  readonly workers: number;
  readonly expertParallel: number;
}

/**
 * The largest world that the hosts have room for and that is no larger than the one asked for: halved, as workers divide
 * the lanes, until it fits. Changes no bit of the result.
 */
export function worldThatFits(hosts: readonly Pick<Place, 'slots'>[], asked: WorldSize): WorldSize {
  const slots = hosts.reduce((sum, host) => sum + (host.slots ?? Number.POSITIVE_INFINITY), 0);
  let { workers } = asked;
  while (workers > 1 && workers > slots) workers /= 2;
  return { workers, expertParallel: Math.min(asked.expertParallel, workers) };
}

/** Those that have workers of a run which is spread over the hosts as far as they have room. */
export function hostsOfWorkers<Where extends Place>(
  hosts: readonly Where[],
  asked: WorldSize,
): readonly Where[] {
  return placeWorkers(hosts, worldThatFits(hosts, asked).workers).map(({ host }) => host);
}

/**
 * As few hosts as it takes so that of each pair one is left out: first those that are in most pairs, and the last of those.
 * @param order of the hosts, by name
 */
export function hostsToLeaveOut(
  apart: readonly (readonly [string, string])[],
  order: readonly string[],
): string[] {
  const out: string[] = [];
  for (let left = apart; left.length > 0; ) {
    const timesIn = (name: string) => left.filter((pair) => pair.includes(name)).length;
    const names = [...new Set(left.flat())].sort((a, b) => order.indexOf(b) - order.indexOf(a));
    const worst = names.reduce((most, name) => (timesIn(name) > timesIn(most) ? name : most));
    out.push(worst);
    left = left.filter((pair) => !pair.includes(worst));
  }
  return out;
}

function tooFewSlots(hosts: readonly Place[], workers: number): SluiceError {
  const found = hosts.map(({ name, slots }) => `${name} ${slots ?? 'any number'}`);
  return new SluiceError(
    'SLUICE_E_HOSTS_TOO_FEW',
    `${workers} workers have no room on the hosts: ${found.length === 0 ? 'there is none' : found.join(', ')}.`,
    { details: { workers, hosts: hosts.map(({ name, slots }) => ({ name, slots: slots ?? null })) } },
  );
}
