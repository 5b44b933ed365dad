/** Asking the coordinator of a run, which may be on another machine. */

import { connectorSecurity, connectTo, errorFromData } from '@sluice/collectives/control';
import { SluiceError } from '@sluice/core';
import { Dealer } from 'zeromq';
import { RunReport } from '../coordinator/runBoard.ts';
import { decodeFromCoordinator, encodeFromAgent, MAX_FLEET_BYTES } from '../fleet/protocol.ts';
import type { Contact } from '../run/contact.ts';

/** How long one of its addresses may take to answer, ms. */
const ANSWER_LIMIT_MS = 5000;

/**
 * Asks at one address of the coordinator after the other.
 * @param limitMs of each address
 * @throws SLUICE_E_COORDINATOR_SILENT when none answers
 */
export async function askCoordinator(
  contact: Contact,
  what: 'ps' | 'stop',
  limitMs = ANSWER_LIMIT_MS,
): Promise<RunReport> {
  for (const endpoint of contact.endpoints) {
    const report = await askAt(endpoint, contact, what, limitMs);
    // Another run may listen at an address that means every host to itself.
    if (report !== undefined && report.token === contact.run) return report;
  }
  const { pid, host, endpoints } = contact;
  throw new SluiceError(
    'SLUICE_E_COORDINATOR_SILENT',
    `The coordinator (process ${pid} on ${host}) did not answer at ${endpoints.join(', ')} within ${limitMs / 1000} s.`,
    { details: { pid, host, endpoints } },
  );
}

async function askAt(
  endpoint: string,
  { curve }: Contact,
  what: 'ps' | 'stop',
  limitMs: number,
): Promise<RunReport | undefined> {
  const socket = new Dealer({
    ...connectorSecurity(curve),
    maxMessageSize: MAX_FLEET_BYTES,
    connectTimeout: limitMs,
    receiveTimeout: limitMs,
    linger: 0,
  });
  try {
    connectTo(socket, endpoint);
    await socket.send(encodeFromAgent('ask', { what }));
    const [frame] = await socket.receive();
    const message = frame && decodeFromCoordinator(frame);
    if (message?.kind === 'refused') throw errorFromData(message.body.error);
    return message?.kind === 'told' ? RunReport.safeParse(message.body.answer).data : undefined;
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    return undefined;
  } finally {
    socket.close();
  }
}
