/** What all our ZeroMQ sockets have in common. */

import { connect } from 'node:net';
import { SluiceError } from '@sluice/core';

interface Bindable {
  bind(address: string): Promise<void>;
}

/** Binds `socket`. @throws SLUICE_E_PORT_TAKEN when another process listens there */
export async function bindOrRefuse(socket: Bindable, address: string): Promise<void> {
  if (address.startsWith('ipc://') && (await someoneListens(address.slice('ipc://'.length)))) {
    throw portTaken(address);
  }
  try {
    await socket.bind(address);
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'EADDRINUSE' ? portTaken(address, error) : error;
  }
}

/** ZeroMQ takes over the path of an ipc endpoint silently, so one that is in use must be found before. */
function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

function portTaken(address: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_PORT_TAKEN', `Cannot listen on ${address}: it is already in use.`, {
    details: { address },
    cause,
  });
}
