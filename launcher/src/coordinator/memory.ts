/** Whether hosts have the memory that a run is planned to take, as far as that can be known before there is a worker. */

import { constants } from 'node:buffer';
import { fitNowhere, SluiceError } from '@sluice/core';
import { counted, formatBytes, formatCount } from '@sluice/observe';
import { heldElements, planMemory, type RunConfig } from '@sluice/train';
import type { Host } from '../fleet/host.ts';
import { placeWorkers, worldThatFits } from '../fleet/placement.ts';

type Planned = Pick<Host, 'name' | 'slots' | 'memoryBytes'>;

/**
 * Of workers that compute in the memory of their hosts.
 * @param hosts those that are known already
 * @returns what the user ought to know, a line each
 * @throws SLUICE_E_MODEL_TOO_LARGE
 */
export function checkMemory(config: RunConfig, hosts: readonly Planned[]): string[] {
  // What a GPU has is known to the worker that computes on it.
  if (config.backend === 'cuda' || hosts.length === 0) return [];
  const { workers, expertParallel } = worldThatFits(hosts, config.parallel);
  const planned = { ...config, parallel: { ...config.parallel, workers, expertParallel } };
  refuseLongArrays(planned);
  const { parameters, total } = planMemory(planned);
  return placeWorkers(hosts, workers).flatMap(({ host: { name, memoryBytes }, ranks }) => {
    if (memoryBytes === undefined || total * ranks.length <= memoryBytes) return [];
    const who = `${counted(ranks.length, 'worker')} on ${name}`;
    const has = `${formatBytes(memoryBytes)} of memory`;
    const weights = parameters * ranks.length;
    if (fitNowhere(weights, memoryBytes)) {
      throw new SluiceError(
        'SLUICE_E_MODEL_TOO_LARGE',
        `${who} would hold ${formatBytes(weights)} of weights, and there is ${has}.`,
        { details: { host: name, weightsBytes: weights, memoryBytes } },
      );
    }
    const wanted = formatBytes(total * ranks.length);
    return [`${who} will take about ${wanted}, and there is ${has}; \`sluice plan\` says what takes it`];
  });
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
