/** What a process must know to become a worker. It holds the run's secrets, and so comes by the channel to the process that started it. */

import { once } from 'node:events';
import { invariant } from '@sluice/core';
import type { CurveKeys } from './security.ts';
import type { TransportKind } from './zeromqTransport.ts';

/** How what workers send each other between machines is protected: from readers and forgers, or from forgers alone (`seal.ts`). */
export type Protection = 'encrypted' | 'authenticated';

export interface Invitation {
  /** Where the coordinator listens. */
  readonly coordinator: string;
  readonly rank: number;
  /** Secret of the workers' group, by which its members know each other. */
  readonly token: string;
  /** How workers reach each other. */
  readonly transport: TransportKind;
  /** Address that other workers reach this one by (tcp); 127.0.0.1 when left out. */
  readonly host?: string;
  /** Directory of the sockets of workers of one host. */
  readonly directory?: string;
  /** Ranks of the worker's host, its own among them (tcp): they reach each other without the network, by what ipc has. */
  readonly neighbours?: readonly number[];
  /** Ranks of each host, where there are several. */
  readonly hosts?: readonly (readonly number[])[];
  /** Process that must stay the parent of this one, for a worker that ends with whoever started it. */
  readonly parentPid?: number;
  /** The cluster's keys; there when the coordinator has them. */
  readonly curve?: CurveKeys;
  /** Of connections between workers (tcp), where there are keys; what the coordinator says is encrypted in any case. */
  readonly protection?: Protection;
}

/** Whether ranks are all on the host of the invited worker, and see each other's memory. */
export function areNear(
  { transport, neighbours = [] }: Pick<Invitation, 'transport' | 'neighbours'>,
  ranks: readonly number[],
): boolean {
  return transport === 'ipc' || ranks.every((rank) => neighbours.includes(rank));
}

/** Waits for the invitation of the process that started this one. */
export async function receiveInvitation(): Promise<Invitation> {
  invariant(process.channel, 'a worker is started with a channel to whoever invites it');
  process.channel.ref();
  const [invitation] = await once(process, 'message');
  process.channel?.unref();
  return invitation as Invitation;
}
