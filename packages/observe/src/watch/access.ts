/** Who may look: whoever is on this machine, or whoever has the token; never a page of another site. */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

const LOOPBACK_NAMES = new Set(['localhost', '127.0.0.1', '[::1]']);

export function isLoopback(host: string): boolean {
  return LOOPBACK_NAMES.has(host) || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

export type Admission = 'admitted' | 'redirected' | 'refused';

/**
 * Judges a request, and answers it where it goes no further.
 * @param token without one, only requests that name this machine itself are served, so that no name of another site leads here
 */
export function admit(
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  token: string | undefined,
): Admission {
  if (token === undefined) {
    const name = (request.headers.host ?? '').replace(/:\d+$/, '');
    if (LOOPBACK_NAMES.has(name) || isLoopback(name)) return 'admitted';
    refuse(response, 403, `This page answers to localhost only, not to ${JSON.stringify(name)}.`);
    return 'refused';
  }
  const cookie = `sluice-watch-${request.socket.localPort}`;
  const given = url.searchParams.get('token');
  if (given !== null && isSame(given, token)) {
    url.searchParams.delete('token');
    response.writeHead(303, {
      // Lax: with Strict, the cookie would be missing when a link from a chat leads here.
      'Set-Cookie': `${cookie}=${token}; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000`,
      Location: `${url.pathname}${url.search}`,
      'Cache-Control': 'no-store',
    });
    response.end();
    return 'redirected';
  }
  const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  if ([bearer, cookieOf(request, cookie)].some((one) => one !== undefined && isSame(one, token))) {
    return 'admitted';
  }
  refuse(
    response,
    401,
    'A token is needed: open the address that `sluice watch` printed, with ?token=… at its end.',
  );
  return 'refused';
}

export function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' });
  response.end(`${message}\n`);
}

function cookieOf({ headers }: IncomingMessage, name: string): string | undefined {
  const cookies = (headers.cookie ?? '').split(';').map((cookie) => cookie.trim());
  return cookies.find((cookie) => cookie.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** In a time that tells nothing of how much of it is right. */
function isSame(given: string, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
