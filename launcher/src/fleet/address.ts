/** Numbers by which hosts reach each other. Names are resolved once, on the host that uses them, and never handed on. */

import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer, isIP, isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { SluiceError } from '@sluice/core';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

const ENDPOINT = /^tcp:\/\/(?:\[(?<v6>[^\]]+)\]|(?<host>[^:/]+)):(?<port>\d{1,5})$/;

/** @throws SLUICE_E_USAGE for what is not tcp://HOST:PORT */
export function parseEndpoint(text: string): Endpoint {
  const { v6, host = v6, port } = ENDPOINT.exec(text)?.groups ?? {};
  if (host === undefined || Number(port) > 65_535) {
    throw new SluiceError('SLUICE_E_USAGE', `${text} is no address of the form tcp://HOST:PORT.`);
  }
  return { host, port: Number(port) };
}

export function formatEndpoint({ host, port }: Endpoint): string {
  return `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** The address of this host from which packets to `host` leave: the one by which that host finds this one. Sends nothing. */
export async function addressTowards(host: string): Promise<string> {
  const { address, family } = await lookup(host, { order: 'ipv4first' });
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(9, address, resolve);
    });
    return socket.address().address;
  } finally {
    socket.close();
  }
}

/** Addresses by which other hosts may reach this one: those of all its interfaces, but not the loopback's and a link's own. */
export function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, scopeid }) => !internal && !scopeid)
    .map(({ address }) => address);
}

/** Whether an address means every host to itself. */
export function isLoopback(address: string): boolean {
  return address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}

/** What to listen on to be reached by all addresses of this host, also those of IPv6 where one of them is asked for. */
export function anyAddress(...reachedBy: readonly string[]): string {
  return reachedBy.some(isIPv6) || !ownAddresses().some(isIPv4) ? '::' : '0.0.0.0';
}

/** Whether an address is one to listen on, and none to be reached by. */
export function isUnspecified(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}

/** A port of the loopback interface that nobody listens on just now, for one that must be known before somebody does. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
