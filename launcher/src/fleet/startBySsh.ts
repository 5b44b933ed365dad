/** A fleet whose agents are started by ssh. */

import { formatEndpoint, parseEndpoint } from './address.ts';
import type { AgentFleet } from './agentFleet.ts';
import { type SshPlan, SshStarter } from './starters/ssh.ts';

export interface SshFleetPlan extends Omit<SshPlan, 'join' | 'incarnation'> {
  readonly fleet: AgentFleet;
  /** Number by which hosts reach this machine; the fleet's own when left out. */
  readonly advertise?: string | undefined;
}

/** Starts the agents of a fleet's hosts. Whoever calls this ends the starter, after the fleet. */
export function startBySsh({ fleet, advertise, ...plan }: SshFleetPlan): SshStarter {
  const { host, port } = parseEndpoint(fleet.endpoint);
  const starter = new SshStarter({
    ...plan,
    join: formatEndpoint({ host: advertise ?? host, port }),
    incarnation: [0, Math.floor(performance.timeOrigin)],
  });
  fleet.failWith(() => starter.failure);
  starter.start();
  return starter;
}
