/** Collective operations among workers, placed and connected as those of a run are: on this machine, or on several hosts. */

import {
  type BenchRequest,
  benchReport,
  type CollectivesBenchReport,
  generateCurveKeys,
  ITERATIONS,
  type Protection,
} from '@sluice/collectives';
import { type ErrorCode, SluiceError } from '@sluice/core';
import { startTeam } from '../coordinator/team.ts';
import { formatEndpoint } from '../fleet/address.ts';
import { AgentFleet } from '../fleet/agentFleet.ts';
import { EXIT_DONE } from '../fleet/exitCode.ts';
import type { FleetNetwork } from '../fleet/fleet.ts';
import type { Host } from '../fleet/host.ts';
import { addressForHosts, nodeName } from '../fleet/hostFile.ts';
import { localHost } from '../fleet/localHost.ts';
import type { NamedHosts } from '../fleet/namedHosts.ts';
import { placeWorkers } from '../fleet/placement.ts';
import { startBySsh } from '../fleet/startBySsh.ts';

export interface BenchOptions extends Omit<BenchRequest, 'iterations'> {
  /** Where it is measured; this machine when left out. */
  readonly on?: NamedHosts | undefined;
  /** Two on this machine, and one on each of several hosts, when left out. */
  readonly world?: number | undefined;
  /** How connections between hosts are protected, where not as the hosts' configuration says. */
  readonly protection?: Protection | undefined;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

type PlacedOptions = Omit<BenchOptions, 'on' | 'world'> & { readonly world: number };

export interface BenchReport extends CollectivesBenchReport {
  /** In the order of the ranks. */
  readonly hosts: readonly { readonly name: string; readonly workers: number }[];
  /** Of connections between them, where there are several. */
  readonly protection?: Protection;
}

/** How long hosts may take to come, s. */
const JOIN_SECONDS = 120;

const MEASURE_AGAIN = 'Measure again; what a worker printed last is above.';

/** What to do where the usual advice is for a run, which has a configuration and checkpoints. */
const ADVICE: Readonly<Partial<Record<ErrorCode, string>>> = {
  SLUICE_E_OUT_OF_MEMORY:
    'Take a smaller --mib: each process holds that much, and twice as much for all-to-all.',
  SLUICE_E_SSH_FAILED:
    'Try `ssh HOST true` by hand; keys and configuration are those of your ssh, or of what --ssh-command names.',
  SLUICE_E_HOSTS_TOO_FEW:
    'Lower --world, or add hosts or slots to those that --hosts names; `sluice doctor --hosts` tells which can be reached.',
  SLUICE_E_WORKER_DIED: `${MEASURE_AGAIN} One that the system has ended may have had too little memory: take a smaller --mib.`,
  SLUICE_E_WORKER_LOST: MEASURE_AGAIN,
  SLUICE_E_WORKER_TIMEOUT: `${MEASURE_AGAIN} A smaller --mib takes less time.`,
  SLUICE_E_COLLECTIVE_TIMEOUT: `${MEASURE_AGAIN} A smaller --mib takes less time.`,
};

/**
 * Starts workers, measures, and ends them.
 * @throws SLUICE_E_USAGE where one process would be alone; SLUICE_E_WORKER_DIED when one ends early; with hosts also SLUICE_E_SSH_FAILED,
 *   SLUICE_E_HOSTS_TOO_FEW, SLUICE_E_ADDRESS_UNREACHABLE
 */
export async function benchCollectives({ on, world, ...options }: BenchOptions): Promise<BenchReport> {
  try {
    return await (on
      ? benchOnHosts(on, { world: world ?? on.hosts.length, ...options })
      : benchAmong([localHost()], { world: world ?? 2, ...options }));
  } catch (error) {
    const advice = error instanceof SluiceError && ADVICE[error.code];
    if (!advice) throw error;
    throw new SluiceError(error.code, error.message, { details: error.details, cause: error, advice });
  }
}

/** Starts the hosts' agents by ssh, and a worker on each, or as many as there are to be. */
async function benchOnHosts(
  { hosts, command, advertise, ...said }: NamedHosts,
  options: PlacedOptions,
): Promise<BenchReport> {
  const { world, signal, log } = options;
  if (world < 2) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `Operations need two processes, and --hosts names one host, ${hosts[0]!.name}: name another, or give --world 2.`,
    );
  }
  const curve = generateCurveKeys();
  const fleet = await AgentFleet.listen({
    endpoint: formatEndpoint({ host: advertise ?? (await addressForHosts(hosts)), port: 0 }),
    ...{ curve, advertise, expected: hosts.map(nodeName), log },
    protection: options.protection ?? said.protection,
    ...{ joinSeconds: JOIN_SECONDS, replacementSeconds: 0 },
  });
  const ssh = startBySsh({
    ...{ fleet, curve, hosts, log, advertise, environment: {} },
    ...(command && { command }),
  });
  try {
    const there = await fleet.assemble(false, () => signal.aborted);
    return await benchAmong(there, options, fleet.network);
  } finally {
    await fleet.end(EXIT_DONE, 'the measurement has ended');
    ssh.end();
  }
}

async function benchAmong(
  there: readonly Host[],
  { operation, mib, world, signal, log }: PlacedOptions,
  network?: FleetNetwork,
): Promise<BenchReport> {
  const placements = placeWorkers(there, world);
  const hosts = placements.map(({ host, ranks }) => ({ name: host.name, workers: ranks.length }));
  if (network)
    log(`measuring between ${hosts.map(({ name, workers }) => `${name} (${workers})`).join(', ')}`);
  const team = await startTeam({
    ...{ placements, threads: 1, onDevices: false, log },
    ...(network && { network }),
  });
  const end = () => void team.kill();
  signal.addEventListener('abort', end);
  try {
    signal.throwIfAborted();
    const request = { operation, mib, iterations: ITERATIONS };
    const transport = placements.length > 1 ? 'tcp' : 'ipc';
    const report = benchReport(await team.call('measure', request), { ...request, transport });
    return { ...report, hosts, ...(transport === 'tcp' && network && { protection: network.protection }) };
  } finally {
    signal.removeEventListener('abort', end);
    await team.stop();
  }
}
