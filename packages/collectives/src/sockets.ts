/** What all our ZeroMQ sockets have in common. */

import { connect } from 'node:net';
import { SluiceError } from '@sluice/core';

interface Bindable {
  readonly lastEndpoint: string | null;
  bind(address: string): Promise<void>;
}

interface Receiving extends AsyncIterable<Buffer[]> {
  readonly closed: boolean;
}

/**
 * Gives each message that comes to `socket` to `take`, as frames, one after the other, until the socket is closed. A wait that is under way
 * then ends in one of several errors, and an answer that `take` sends in another: none of them is one.
 */
export async function receiveAll(
  socket: Receiving,
  take: (...frames: (Buffer | undefined)[]) => void | Promise<void>,
): Promise<void> {
  try {
    for await (const frames of socket) await take(...frames);
  } catch (error) {
    if (!socket.closed) throw error;
  }
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

/**
 * Binds `socket` to a free port of the number by which peers reach this machine. Where that is none of its own (a container
 * whose ports are passed on), it listens on all of its own.
 * @returns where peers reach it
 * @throws SLUICE_E_PORT_TAKEN
 */
export async function bindReachable(socket: Bindable, host: string): Promise<string> {
  try {
    await bindOrRefuse(socket, `tcp://${host}:*`);
    return socket.lastEndpoint!;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') throw error;
  }
  await bindOrRefuse(socket, 'tcp://0.0.0.0:*');
  return socket.lastEndpoint!.replace('0.0.0.0', host);
}

/**
 * Binds `socket` to an endpoint; to a free port where that is `tcp://HOST:0`.
 * @returns where peers reach it
 * @throws SLUICE_E_PORT_TAKEN
 */
export async function listenAt(socket: Bindable, endpoint: string): Promise<string> {
  const host = /^tcp:\/\/(.+):0$/.exec(endpoint)?.[1];
  if (host !== undefined) return bindReachable(socket, host);
  await bindOrRefuse(socket, endpoint);
  return socket.lastEndpoint!;
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
