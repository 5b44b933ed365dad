/** The link that fails on demand, as the two programs at its ends see it. */

import { once } from 'node:events';
import { type AddressInfo, connect as connectTo, createServer, type Socket } from 'node:net';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { TcpProxy } from '@sluice/collectives';
import test, { type ExecutionContext } from 'ava';

/** One end of a connection, and all that it has got. */
class End {
  readonly socket: Socket;
  received = Buffer.alloc(0);
  readonly ended: Promise<string>;
  #onData: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#onData();
    });
    this.ended = new Promise((resolve) => {
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code!));
      socket.on('end', () => resolve('end'));
      socket.on('close', () => resolve('closed'));
    });
  }

  /** Resolves when so many bytes have come. */
  async got(bytes: number): Promise<Buffer> {
    while (this.received.length < bytes) {
      await new Promise<void>((resolve) => {
        this.#onData = resolve;
      });
    }
    return this.received;
  }
}

interface Link {
  readonly proxy: TcpProxy;
  /** A new connection through the link, by its two ends. */
  connect(): Promise<[End, End]>;
}

async function makeLink(t: ExecutionContext): Promise<Link> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await TcpProxy.open((server.address() as AddressInfo).port);
  const sockets: Socket[] = [];
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await proxy.close();
    server.close();
  });
  return {
    proxy,
    async connect() {
      const accepted = once(server, 'connection');
      const near = connectTo({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true });
      const [far] = (await accepted) as [Socket];
      sockets.push(near, far);
      return [new End(near), new End(far)];
    },
  };
}

/** Bytes that are not those of any other place nearby. */
const someBytes = (length: number) =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => (i * i + (i >> 8)) % 251));

test('bytes and ends pass unchanged, both ways', async (t) => {
  const { connect } = await makeLink(t);
  const [near, far] = await connect();
  const bytes = someBytes(3_000_000);
  near.socket.end(bytes);
  t.true((await far.got(bytes.length)).equals(bytes));
  t.is(await far.ended, 'end');
  // The other direction is still open.
  far.socket.end('answer');
  t.is(String(await near.got(6)), 'answer');
});

test('what is delayed arrives no earlier, and in order', async (t) => {
  const { proxy, connect } = await makeLink(t);
  const [near, far] = await connect();
  proxy.delay(80);
  const start = performance.now();
  near.socket.write('slow ');
  far.socket.write('answer');
  await far.got(5);
  await near.got(6);
  t.true(performance.now() - start >= 79);
  near.socket.write('a');
  proxy.delay(0);
  near.socket.write('b');
  t.is(String(await far.got(7)), 'slow ab');
});

test('a stalled link holds its senders up and loses nothing', async (t) => {
  const { proxy, connect } = await makeLink(t);
  const [near, far] = await connect();
  proxy.stall();
  const bytes = someBytes(20_000_000);
  t.false(near.socket.write(bytes));
  // Also of connections that are made meanwhile.
  const [late, other] = await connect();
  late.socket.write('hello');
  await setTimeout(100);
  t.is(far.received.length, 0);
  t.is(other.received.length, 0);
  t.true(near.socket.writableLength > 0);
  proxy.mend();
  t.true((await far.got(bytes.length)).equals(bytes));
  t.is(String(await other.got(5)), 'hello');
});

test('what is swallowed never arrives, though its sender is rid of it', async (t) => {
  const { proxy, connect } = await makeLink(t);
  const [near, far] = await connect();
  proxy.swallow();
  near.socket.write(someBytes(2_000_000));
  while (proxy.swallowedBytes < 2_000_000) await setImmediate();
  proxy.mend();
  near.socket.write('kept');
  t.is(String(await far.got(4)), 'kept');
  t.is(proxy.connections, 1);
});

test('a cut resets both ends and every new connection, until it is mended', async (t) => {
  const { proxy, connect } = await makeLink(t);
  const [near, far] = await connect();
  t.is(proxy.connections, 1);
  proxy.cut();
  t.is(await near.ended, 'ECONNRESET');
  t.is(await far.ended, 'ECONNRESET');
  const refused = new End(connectTo(proxy.port, '127.0.0.1'));
  t.regex(await refused.ended, /ECONNRESET|closed/);
  proxy.mend();
  const [again, there] = await connect();
  again.socket.write('back');
  t.is(String(await there.got(4)), 'back');
});

test('a bit in every so many bytes is flipped, wherever the pieces end', async (t) => {
  const { proxy, connect } = await makeLink(t);
  const [near, far] = await connect();
  proxy.corrupt(1000);
  const bytes = someBytes(300_000);
  near.socket.write(bytes.subarray(0, 1234));
  await far.got(1234);
  near.socket.write(bytes.subarray(1234));
  const got = await far.got(bytes.length);
  const changed = [...got.keys()].filter((i) => got[i] !== bytes[i]);
  t.deepEqual(
    changed,
    Array.from({ length: 300 }, (_, i) => 1000 * (i + 1) - 1),
  );
  t.true(changed.every((i) => got[i] === (bytes[i]! ^ 1)));
});

test('where nobody listens, the one who connects is reset', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  const proxy = await TcpProxy.open(port);
  t.teardown(() => proxy.close());
  const near = new End(connectTo(proxy.port, '127.0.0.1'));
  t.is(await near.ended, 'ECONNRESET');
});
