/**
 * A TCP link between two addresses of this machine that fails on demand: it delays, stalls, swallows, corrupts, and is cut. For
 * trying what crosses machines, without root and without other machines.
 */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';

/** How much may be on its way in one direction before the sender has to wait. */
const MOST_IN_FLIGHT = 1 << 20;

type State = 'open' | 'stalled' | 'swallowing' | 'cut';

export class TcpProxy {
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #state: State = 'open';
  #delayMs = 0;
  #corruptEvery = 0;
  #swallowed = 0;

  /** @param target port on 127.0.0.1 that the link leads to; nobody need listen there yet */
  static async open(target: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** Where the link begins, on 127.0.0.1. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#sockets.size / 2;
  }

  get swallowedBytes(): number {
    return this.#swallowed;
  }

  /** What is sent from now on arrives so many milliseconds later at the earliest, in each direction. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Flips a bit in every so many bytes of each direction of each connection; 0 leaves all as it is. */
  corrupt(everyBytes: number): void {
    this.#corruptEvery = everyBytes;
  }

  /** Takes nothing from either side any more, as a peer does that stands still: both are held up, and nothing is lost. */
  stall(): void {
    this.#set('stalled');
  }

  /** Takes everything and hands on nothing, as a network does that loses all; but the senders are told that it arrived. */
  swallow(): void {
    this.#set('swallowing');
  }

  /** Resets all connections, and new ones at once. */
  cut(): void {
    this.#set('cut');
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Ends a stall, a swallowing or a cut. Connections that were reset have to be made anew. */
  mend(): void {
    this.#set('open');
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #set(state: State): void {
    this.#state = state;
    for (const socket of this.#sockets) {
      if (state === 'stalled') socket.pause();
      else socket.resume();
    }
  }

  #accept(near: Socket): void {
    if (this.#state === 'cut') {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: this.#target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    near.setNoDelay();
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      this.#carry(one, other);
      // What one side learns, the other does too: a reset, a refusal, the end.
      one.on('error', () => other.resetAndDestroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      if (this.#state === 'stalled') one.pause();
    }
  }

  #carry(from: Socket, to: Socket): void {
    let seen = 0;
    let inFlight = 0;
    let earlier = Promise.resolve();
    const inTurn = (then: () => void) => {
      const due = performance.now() + this.#delayMs;
      earlier = earlier.then(async () => {
        const waitMs = due - performance.now();
        if (waitMs > 0) await setTimeout(Math.ceil(waitMs));
        then();
      });
    };
    from.on('data', (chunk: Buffer) => {
      const bytes = this.#corrupted(chunk, seen);
      seen += chunk.length;
      if (this.#state === 'swallowing') {
        this.#swallowed += bytes.length;
        return;
      }
      inFlight += bytes.length;
      if (inFlight > MOST_IN_FLIGHT) from.pause();
      inTurn(() => {
        to.write(bytes, () => {
          inFlight -= bytes.length;
          if (inFlight <= MOST_IN_FLIGHT && this.#state !== 'stalled') from.resume();
        });
      });
    });
    from.on('end', () => inTurn(() => to.end()));
  }

  /** @param position of the chunk in all that was sent before it */
  #corrupted(chunk: Buffer, position: number): Buffer {
    if (this.#corruptEvery === 0) return chunk;
    const changed = Buffer.from(chunk);
    const past = position % this.#corruptEvery;
    for (let at = this.#corruptEvery - 1 - past; at < changed.length; at += this.#corruptEvery)
      changed[at]! ^= 1;
    return changed;
  }
}
