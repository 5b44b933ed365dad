/** Collective operations among workers of several hosts, as those of a run are placed and connected. */

import {
  type BenchRequest,
  benchReport,
  type CollectivesBenchReport,
  generateCurveKeys,
  ITERATIONS,
} from '@sluice/collectives';
import { startTeam } from '../coordinator/team.ts';
import { formatEndpoint } from '../fleet/address.ts';
import { AgentFleet } from '../fleet/agentFleet.ts';
import { EXIT_DONE } from '../fleet/exitCode.ts';
import { addressForHosts, nodeName } from '../fleet/hostFile.ts';
import type { NamedHosts } from '../fleet/namedHosts.ts';
import { placeWorkers } from '../fleet/placement.ts';
import { startBySsh } from '../fleet/startBySsh.ts';

export interface HostsBenchOptions extends Omit<BenchRequest, 'iterations'> {
  /** One a host when left out. */
  readonly world?: number | undefined;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

export interface HostsBenchReport extends CollectivesBenchReport {
  /** In the order of the ranks. */
  readonly hosts: readonly { readonly name: string; readonly workers: number }[];
}

/** How long hosts may take to come, s. */
const JOIN_SECONDS = 120;

/**
 * Starts the hosts' agents by ssh, and a worker on each, or as many as there are to be.
 * @throws SLUICE_E_SSH_FAILED, SLUICE_E_HOSTS_TOO_FEW, SLUICE_E_ADDRESS_UNREACHABLE; SLUICE_E_WORKER_DIED when one ends early
 */
export async function benchOnHosts(
  { hosts, command, advertise }: NamedHosts,
  { operation, mib, world = hosts.length, signal, log }: HostsBenchOptions,
): Promise<HostsBenchReport> {
  const curve = generateCurveKeys();
  const fleet = await AgentFleet.listen({
    endpoint: formatEndpoint({ host: advertise ?? (await addressForHosts(hosts)), port: 0 }),
    ...{ curve, advertise, expected: hosts.map(nodeName), log },
    ...{ joinSeconds: JOIN_SECONDS, replacementSeconds: 0 },
  });
  const ssh = startBySsh({
    ...{ fleet, curve, hosts, log, advertise, environment: {} },
    ...(command && { command }),
  });
  try {
    const placements = placeWorkers(await fleet.assemble(false, () => signal.aborted), world);
    log(
      `measuring between ${placements.map(({ host, ranks }) => `${host.name} (${ranks.length})`).join(', ')}`,
    );
    const team = await startTeam({
      ...{ placements, threads: 1, onDevices: false, log },
      ...(fleet.network && { network: fleet.network }),
    });
    const end = () => void team.kill();
    signal.addEventListener('abort', end);
    try {
      const request = { operation, mib, iterations: ITERATIONS };
      const report = benchReport(await team.call('measure', request), {
        ...request,
        transport: placements.length > 1 ? 'tcp' : 'ipc',
      });
      return {
        ...report,
        hosts: placements.map(({ host, ranks }) => ({ name: host.name, workers: ranks.length })),
      };
    } finally {
      signal.removeEventListener('abort', end);
      await team.stop();
    }
  } finally {
    await fleet.end(EXIT_DONE, 'the measurement has ended');
    ssh.end();
  }
}
