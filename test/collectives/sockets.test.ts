import { setTimeout as delay } from 'node:timers/promises';
import { generateCurveKeys } from '@sluice/collectives';
import { Authenticator, connectorSecurity, listenerSecurity, receiveAll } from '@sluice/collectives/control';
import test from 'ava';
import { Context, Dealer, Router } from 'zeromq';

const curve = generateCurveKeys();

/** One who connects, and sends one message after the other until the socket is closed. */
function chatterer(endpoint: string): Dealer {
  const socket = new Dealer({ ...connectorSecurity(curve), linger: 0 });
  socket.connect(endpoint);
  void (async () => {
    try {
      while (!socket.closed) await socket.send('x');
    } catch {
      // It was closed meanwhile.
    }
  })();
  return socket;
}

test('a listener is closed without an error, whatever comes or is answered just then', async (t) => {
  for (let round = 0; round < 60; round++) {
    const context = new Context();
    const authenticator = await Authenticator.start(context, curve);
    const router = new Router({ context, ...listenerSecurity(curve), linger: 0 });
    await router.bind('tcp://127.0.0.1:*');
    let received = 0;
    const ended = receiveAll(router, async (identity, frame) => {
      received++;
      await router.send([identity!, frame!]);
    });
    const peers = [1, 2].map(() => chatterer(router.lastEndpoint!));
    if (round % 2 === 0) while (received < round) await delay(1);
    else await delay(round % 5);
    router.close();
    authenticator.close();
    await t.notThrowsAsync(ended);
    for (const peer of peers) peer.close();
  }
});

test('an error of whoever takes the messages is told', async (t) => {
  const router = new Router({ linger: 0 });
  await router.bind('tcp://127.0.0.1:*');
  const peer = new Dealer({ linger: 0 });
  peer.connect(router.lastEndpoint!);
  t.teardown(() => {
    router.close();
    peer.close();
  });
  await peer.send('x');
  const taken = receiveAll(router, () => {
    throw new Error('not so');
  });
  await t.throwsAsync(taken, { message: 'not so' });
});
