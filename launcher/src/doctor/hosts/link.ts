/**
 * One connection between two hosts, tried as a run would make it: an address that workers would listen on, and ZeroMQ with CURVE.
 * Where it does not come about, a plain connection to the same place tells why.
 */

import { connect } from 'node:net';
import { type CurveKeys, generateCurveKeys } from '@sluice/collectives';
import {
  Authenticator,
  CURVE_OVERHEAD_BYTES,
  connectorSecurity,
  connectTo,
  listenAt,
  listenerSecurity,
  receiveAll,
} from '@sluice/collectives/control';
import { Context, Dealer, Router } from 'zeromq';
import { z } from 'zod';
import { formatEndpoint, parseEndpoint } from '../../fleet/address.ts';

/** What was found on the way from one host to another. */
export const LinkResult = z.object({
  /** Median, ms; null where there is no connection. */
  roundTripMs: z.number().nullable(),
  /** Of one encrypted connection, bytes a second. */
  bytesPerSecond: z.number().nullable(),
  /** Why there is none, in words. */
  failure: z.string().nullable(),
});
export type LinkResult = z.infer<typeof LinkResult>;

/** How long a connection may take to come about, and an answer to come, ms. */
const LIMIT_MS = 5000;

const PINGS = 21;

/** What is sent to measure the rate: as many frames of a run's largest payload as fit into this time, ms, and no more than so many. */
const RATE_MS = 400;
const MOST_FRAMES = 64;
const FRAME_BYTES = 1 << 20;

export interface Listener {
  readonly endpoint: string;
  close(): void;
}

/**
 * Listens as a worker would, and answers each message with its first frame.
 * @throws what binding throws
 */
export async function listen(address: string, curve: CurveKeys): Promise<Listener> {
  const context = new Context();
  const authenticator = await Authenticator.start(context, curve);
  const router = new Router({
    context,
    ...listenerSecurity(curve),
    maxMessageSize: FRAME_BYTES + CURVE_OVERHEAD_BYTES,
    linger: 0,
  });
  let endpoint: string;
  try {
    endpoint = await listenAt(router, formatEndpoint({ host: address, port: 0 }));
  } catch (error) {
    router.close();
    authenticator.close();
    throw error;
  }
  void receiveAll(router, async (identity, mark) => {
    if (identity !== undefined && mark !== undefined) await router.send([identity, mark]).catch(() => {});
  });
  return {
    endpoint,
    close() {
      router.close();
      authenticator.close();
    },
  };
}

/** Connects to another host's listener, and measures the connection. */
export async function tryLink(
  endpoint: string,
  curve: CurveKeys = generateCurveKeys(),
  limitMs = LIMIT_MS,
): Promise<LinkResult> {
  const refused = await plainFailure(endpoint, limitMs);
  if (refused !== undefined) return none(refused);
  const socket = new Dealer({
    ...connectorSecurity(curve),
    connectTimeout: limitMs,
    receiveTimeout: limitMs,
    sendTimeout: limitMs,
    immediate: true,
    linger: 0,
  });
  let roundTripMs: number | null = null;
  try {
    connectTo(socket, endpoint);
    roundTripMs = await measureRoundTrip(socket);
    return { roundTripMs, bytesPerSecond: await measureRate(socket), failure: null };
  } catch {
    return roundTripMs === null
      ? none(
          'other program: something answers there, but not with the key of this check; or something between them changes what is sent',
        )
      : { roundTripMs, bytesPerSecond: null, failure: 'broken: small messages pass, large ones do not' };
  } finally {
    socket.close();
  }
}

function none(failure: string): LinkResult {
  return { roundTripMs: null, bytesPerSecond: null, failure };
}

async function measureRoundTrip(socket: Dealer): Promise<number> {
  const times: number[] = [];
  // The first waits for the connection.
  for (let ping = 0; ping <= PINGS; ping++) {
    const begun = performance.now();
    await socket.send('ping');
    await socket.receive();
    if (ping > 0) times.push(performance.now() - begun);
  }
  return times.sort((a, b) => a - b)[PINGS >> 1]!;
}

async function measureRate(socket: Dealer): Promise<number> {
  const payload = Buffer.alloc(FRAME_BYTES);
  const begun = performance.now();
  let sent = 0;
  // Two are under way at a time: the answer to one comes while the other is on its way.
  for (; sent < MOST_FRAMES && (sent < 2 || performance.now() - begun < RATE_MS); sent++) {
    await socket.send(['got', payload]);
    if (sent > 0) await socket.receive();
  }
  await socket.receive();
  return (sent * FRAME_BYTES) / ((performance.now() - begun) / 1000);
}

/** What a plain connection meets; undefined where it comes about. */
function plainFailure(endpoint: string, limitMs: number): Promise<string | undefined> {
  const { host, port } = parseEndpoint(endpoint);
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (failure: string | undefined) => {
      clearTimeout(limit);
      socket.destroy();
      resolve(failure);
    };
    const limit = setTimeout(
      () =>
        end(
          `timed out: nothing came back within ${limitMs / 1000} s; a firewall that drops packets, or no route`,
        ),
      limitMs,
    );
    socket.once('connect', () => end(undefined));
    socket.once('error', (error: NodeJS.ErrnoException) => end(inWords(error)));
  });
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED:
    'refused: nothing listens at that address, or a firewall rejects it; it may be another machine’s',
  EHOSTUNREACH: 'unreachable: no host answers at that address',
  ENETUNREACH: 'unreachable: there is no route to that network',
  ETIMEDOUT: 'timed out: a firewall that drops packets, or no route',
  EACCES: 'forbidden by this host’s own firewall',
  EPERM: 'forbidden by this host’s own firewall',
};

function inWords({ code, message }: NodeJS.ErrnoException): string {
  return WORDS[code ?? ''] ?? message;
}
