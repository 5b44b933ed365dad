/**
 * Ways between workers that can be made to fail: where the environment names such a service, each worker asks it for a way of its own,
 * a `TcpProxy`, by which workers of other hosts then reach it. For trying what befalls connections of a run that is otherwise as any.
 */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { invariant } from '@sluice/core';
import { TcpProxy } from './tcpProxy.ts';

/** Variable of the environment that holds the port of the service, on 127.0.0.1. */
export const DETOUR_VARIABLE = 'SLUICE_DETOUR';

/** How long a worker waits for the service, ms. */
const ANSWER_LIMIT_MS = 10_000;

/**
 * @param endpoint of a worker, `tcp://HOST:PORT`
 * @returns where peers are to reach it: just there, unless the environment names a service
 */
export async function detoured(
  rank: number,
  endpoint: string,
  service = process.env[DETOUR_VARIABLE],
): Promise<string> {
  if (service === undefined || !endpoint.startsWith('tcp:')) return endpoint;
  const socket = connect(Number(service), '127.0.0.1');
  socket.setTimeout(ANSWER_LIMIT_MS, () => socket.destroy(new Error(`no answer of ${DETOUR_VARIABLE}`)));
  socket.end(`${rank} ${endpoint.split(':').at(-1)}`);
  const port = await everything(socket);
  invariant(port !== '', `the service of ${DETOUR_VARIABLE} gives a port`);
  return `tcp://127.0.0.1:${port}`;
}

/** The way to a worker. */
export interface Detour {
  readonly rank: number;
  readonly link: TcpProxy;
}

export class DetourService {
  readonly #server: Server;
  readonly #detours: Detour[] = [];

  static async open(): Promise<DetourService> {
    const service = new DetourService();
    service.#server.listen(0, '127.0.0.1');
    await once(service.#server, 'listening');
    return service;
  }

  private constructor() {
    // Workers ask, and say no more.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      void this.#answer(socket).catch(() => socket.destroy());
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The ways that are in use. */
  get detours(): readonly Detour[] {
    return this.#detours.filter(({ link }) => link.connections > 0);
  }

  async close(): Promise<void> {
    this.#server.close();
    await Promise.all(this.#detours.map(({ link }) => link.close()));
  }

  async #answer(socket: Socket): Promise<void> {
    const [rank, port] = (await everything(socket)).split(' ').map(Number);
    const link = await TcpProxy.open(port!);
    this.#detours.push({ rank: rank!, link });
    socket.end(String(link.port));
  }
}

/** What the other end says until it says no more; the own end stays open. */
async function everything(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  await once(socket, 'end');
  return text;
}
