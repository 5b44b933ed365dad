/** What `sluice launch` would do, for people to look at before: which workers on which host, and what would be executed there. */

import { existsSync } from 'node:fs';
import type { RunConfig } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import type { HostsPlan } from '../fleet/hostsPlan.ts';
import { placeWorkers, type WorldSize, worldThatFits } from '../fleet/placement.ts';
import { AGENT_WORDS, sshWords } from '../fleet/starters/ssh.ts';
import { runDirectory } from '../run/runDirectory.ts';
import { computesOnDevices } from './devices.ts';

/**
 * @param path of the run
 * @param further words of the agents' command line
 */
export function launchPlan(
  { starter, hosts, nodes, listen, sshCommand, collect, saidBy }: HostsPlan,
  config: RunConfig,
  path: string,
  further: readonly string[],
): CommandResult {
  const { parallel } = config;
  // What is not known before hosts have come, such as their cores, changes nothing of this.
  const world = worldThatFits(hosts.length > 0 ? hosts : [{ slots: undefined }], parallel);
  const placements = hosts.length > 0 ? placeWorkers(hosts, world.workers) : [];
  const executed = hosts.map((host) => ({
    ...{ host: host.name, slots: host.slots ?? null, address: host.address ?? null },
    ranks: placements.find((placement) => placement.host === host)?.ranks ?? [],
    words: sshWords(host, sshCommand?.split(' '), { words: [...AGENT_WORDS, ...further] }),
  }));
  const lines = [
    `${existsSync(runDirectory(path).config) ? 'goes on with' : 'starts'} the run in ${path}`,
    worldText(world, config),
    starter === 'local' ? 'on this machine alone' : `the hosts are those of ${saidBy}`,
    ...(starter === 'agents'
      ? [`${nodes} agents, which something else starts, join ${listen ?? 'at a free port'}`]
      : []),
    ...(collect ? ['hosts need not see the run’s directory: checkpoints go through the coordinator'] : []),
    ...executed.flatMap(({ words, ...place }) => [hostText(place), `  ${words.join(' ')}`]),
  ];
  return {
    text: lines.join('\n'),
    json: { runDir: path, ...parallel, on: starter, saidBy, hosts: executed },
  };
}

function worldText({ workers, expertParallel }: WorldSize, config: RunConfig): string {
  const { workers: asked, threads } = config.parallel;
  const isOne = workers === 1;
  const cores = isOne ? 'with the cores of its host' : 'which share the cores of their hosts';
  const each = threads === 0 ? cores : `${threads} ${threads === 1 ? 'thread' : 'threads'} each`;
  return [
    `${workers} ${isOne ? 'worker' : 'workers'}, ${each}`,
    ...(computesOnDevices(config) ? ['a GPU for each'] : []),
    ...(expertParallel > 1 ? [`every ${expertParallel} share one set of experts`] : []),
    ...(workers < asked ? [`the hosts have no room for ${asked}`] : []),
  ].join('; ');
}

function hostText({
  host,
  ranks,
  slots,
  address,
}: {
  readonly host: string;
  readonly ranks: readonly number[];
  readonly slots: number | null;
  readonly address: string | null;
}): string {
  return [
    `${host}: ${ranksText(ranks)}`,
    ...(slots === null ? [] : [`room for ${slots}`]),
    ...(address === null ? [] : [`reached at ${address}`]),
  ].join(', ');
}

function ranksText(ranks: readonly number[]): string {
  const [first, last] = [ranks[0], ranks.at(-1)];
  if (first === undefined) return 'no worker, a spare';
  return first === last ? `worker ${first}` : `workers ${first} to ${last}`;
}
