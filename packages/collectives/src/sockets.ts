/** What all our ZeroMQ sockets have in common. */

import { connect, isIPv6 } from 'node:net';
import { SluiceError } from '@sluice/core';

interface Bindable {
  readonly lastEndpoint: string | null;
  ipv6: boolean;
  bind(address: string): Promise<void>;
}

interface Connectable {
  ipv6: boolean;
  connect(address: string): void;
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

/** Whether an endpoint is at a number of IPv6, of which ZeroMQ's sockets must be told. */
function isAtIpv6(endpoint: string): boolean {
  return endpoint.startsWith('tcp://[');
}

/** What a socket is told that it knows already, it warns of. */
function allowIpv6(socket: { ipv6: boolean }, isIpv6: boolean): void {
  if (socket.ipv6 !== isIpv6) socket.ipv6 = isIpv6;
}

/**
 * Connects `socket` to where a peer listens, in its own time.
 * @param isIpv6 whether a name there leads to a number of IPv6
 */
export function connectTo(socket: Connectable, endpoint: string, isIpv6 = isAtIpv6(endpoint)): void {
  allowIpv6(socket, isIpv6);
  socket.connect(endpoint);
}

/** Binds `socket`. @throws SLUICE_E_PORT_TAKEN when another process listens there */
export async function bindOrRefuse(socket: Bindable, address: string): Promise<void> {
  if (address.startsWith('ipc://') && (await someoneListens(address.slice('ipc://'.length)))) {
    throw portTaken(address);
  }
  try {
    allowIpv6(socket, isAtIpv6(address));
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
  const [one, all] = isIPv6(host) ? [`[${host}]`, '[::]'] : [host, '0.0.0.0'];
  try {
    await bindOrRefuse(socket, `tcp://${one}:*`);
    return socket.lastEndpoint!;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') throw error;
  }
  await bindOrRefuse(socket, `tcp://${all}:*`);
  return socket.lastEndpoint!.replace(all, one);
}

/**
 * Binds `socket` to an endpoint; to a free port where that is `tcp://HOST:0`.
 * @returns where peers reach it
 * @throws SLUICE_E_PORT_TAKEN
 */
export async function listenAt(socket: Bindable, endpoint: string): Promise<string> {
  const host = /^tcp:\/\/\[?(.+?)\]?:0$/.exec(endpoint)?.[1];
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
