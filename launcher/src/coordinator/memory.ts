/** Whether hosts, or their GPUs, have the memory that a run is planned to take, as far as that can be known before there is a worker. */

import { constants } from 'node:buffer';
import { fitNowhere, SluiceError } from '@sluice/core';
import { counted, formatBytes, formatCount } from '@sluice/observe';
import { heldElements, planHostMemory, planMemory, type RunConfig } from '@sluice/train';
import type { Host } from '../fleet/host.ts';
import { type Placement, placeWorkers, worldThatFits } from '../fleet/placement.ts';
import { computesOnDevices } from './devices.ts';

type Planned = Pick<Host, 'name' | 'slots' | 'memoryBytes' | 'devices'>;

/**
 * @param hosts those that are known already
 * @returns what the user ought to know, a line each
 * @throws SLUICE_E_MODEL_TOO_LARGE
 */
export function checkMemory(config: RunConfig, hosts: readonly Planned[]): string[] {
  if (hosts.length === 0) return [];
  const { workers, expertParallel } = worldThatFits(hosts, config.parallel);
  const planned = { ...config, parallel: { ...config.parallel, workers, expertParallel } };
  const placements = placeWorkers(hosts, workers);
  if (config.backend !== 'cuda') {
    refuseLongArrays(planned);
    const { parameters, total } = planMemory(planned);
    return placements.flatMap((placement) => hostLines(placement, total, parameters));
  }
  return placements.flatMap((placement) => [
    ...(computesOnDevices(planned) ? deviceLines(planned, placement) : []),
    ...hostLines(placement, planHostMemory(planned)!.total),
  ]);
}

const ADVICE = '`sluice plan` says what takes it';

/** @param weights what of `total`, bytes of a worker, is there all the time and read again and again; 0 where that is a GPU's */
function hostLines(
  { host: { name, memoryBytes }, ranks }: Placement<Planned>,
  total: number,
  weights = 0,
): string[] {
  if (memoryBytes === undefined || total * ranks.length <= memoryBytes) return [];
  const who = `${counted(ranks.length, 'worker')} on ${name}`;
  const has = `${formatBytes(memoryBytes)} of memory`;
  const weightsBytes = weights * ranks.length;
  if (fitNowhere(weightsBytes, memoryBytes)) {
    throw new SluiceError(
      'SLUICE_E_MODEL_TOO_LARGE',
      `${who} would hold ${formatBytes(weightsBytes)} of weights, and there is ${has}.`,
      { details: { host: name, weightsBytes, memoryBytes } },
    );
  }
  return [`${who} will take about ${formatBytes(total * ranks.length)}, and there is ${has}; ${ADVICE}`];
}

/** Nothing of a GPU is put aside as a host's memory is, but sums of gradients, of which the plan knows. */
function deviceLines(config: RunConfig, { host: { name, devices }, ranks }: Placement<Planned>): string[] {
  const sharing = Math.ceil(ranks.length / devices.length);
  const known = devices.slice(0, ranks.length).flatMap(({ memoryBytes }) => memoryBytes ?? []);
  if (known.length === 0) return [];
  const memoryBytes = Math.min(...known) / sharing;
  const { parameters, optimizer, total } = planMemory(config, memoryBytes, ranks.length);
  const has = `its GPU has ${formatBytes(memoryBytes)} of memory`;
  const heldBytes = parameters + optimizer;
  if (heldBytes > memoryBytes) {
    throw new SluiceError(
      'SLUICE_E_MODEL_TOO_LARGE',
      `A worker on ${name} would hold ${formatBytes(heldBytes)} of weights and moments, and ${has}.`,
      { details: { host: name, heldBytes, memoryBytes } },
    );
  }
  if (total <= memoryBytes) return [];
  return [`a worker on ${name} will take about ${formatBytes(total)}, and ${has}; ${ADVICE}`];
}

/** All weights of a kind that a worker holds are one typed array. */
function refuseLongArrays(config: RunConfig): void {
  const most = constants.MAX_LENGTH;
  const { replicated, expert } = heldElements(config);
  const longest = Math.max(replicated, expert);
  if (longest <= most) return;
  throw new SluiceError(
    'SLUICE_E_MODEL_TOO_LARGE',
    `A worker would hold ${formatCount(longest)} weights in one array, and arrays of Node.js ${process.version} have ${formatCount(most)} elements at most.`,
    { details: { elements: longest, most } },
  );
}
