import { setTimeout as delay } from 'node:timers/promises';
import { generateCurveKeys, PROTOCOL_VERSION } from '@sluice/collectives';
import { Authenticator, listenerSecurity } from '@sluice/collectives/control';
import test, { type ExecutionContext } from 'ava';
import { Context, Router } from 'zeromq';
import { Agent } from '../../../launcher/src/fleet/agent.ts';
import {
  type CoordinatorMessages,
  decodeFromAgent,
  encodeFromCoordinator,
} from '../../../launcher/src/fleet/protocol.ts';
import { allowLongRun, FRAMES, malformedFrames } from '../../support/malformed.ts';

const curve = generateCurveKeys();

/** The coordinator's end, as a test wants it. */
class FakeCoordinator {
  readonly #router: Router;
  readonly endpoint: string;
  #identity: Buffer | undefined;

  static async listen(t: ExecutionContext): Promise<FakeCoordinator> {
    const context = new Context();
    const authenticator = await Authenticator.start(context, curve);
    const router = new Router({ context, ...listenerSecurity(curve), linger: 0, handover: true });
    await router.bind('tcp://127.0.0.1:*');
    t.teardown(() => {
      router.close();
      authenticator.close();
    });
    return new FakeCoordinator(router);
  }

  private constructor(router: Router) {
    this.#router = router;
    this.endpoint = router.lastEndpoint!;
  }

  async next(kind: string) {
    for await (const [identity, frame] of this.#router) {
      this.#identity = identity!;
      const message = decodeFromAgent(frame!)!;
      if (message.kind === kind) return message;
    }
    throw new Error(`no ${kind} came`);
  }

  async say<Kind extends keyof CoordinatorMessages>(kind: Kind, body: CoordinatorMessages[Kind]) {
    await this.sayRaw(encodeFromCoordinator(kind, body));
  }

  async sayRaw(frame: Buffer) {
    await this.#router.send([this.#identity!, frame]);
  }
}

async function start(t: ExecutionContext, options: { join: string; patienceSeconds?: number }) {
  const said: string[] = [];
  const agent = new Agent({
    ...{ curve, node: 'h1', nodeRank: 0, patienceSeconds: 60, log: (line: string) => said.push(line) },
    ...options,
  });
  await agent.start();
  t.teardown(() => agent.finish(0, 'test'));
  return { agent, said };
}

test('an agent joins with what its host has, answers heartbeats, and ends with the code that it is told', async (t) => {
  const coordinator = await FakeCoordinator.listen(t);
  const { agent, said } = await start(t, { join: coordinator.endpoint });
  const { body } = await coordinator.next('join');
  t.like(body, { node: 'h1', nodeRank: 0, address: '127.0.0.1', pid: process.pid });
  await coordinator.say('welcome', {});
  await coordinator.say('beat', { number: 1, workers: [] });
  t.deepEqual((await coordinator.next('beat')).body, { heard: 1, workers: [] });
  await coordinator.say('end', { code: 75, reason: 'stopped early' });
  t.like((await coordinator.next('left')).body, { reason: 'stopped early' });
  t.is(await agent.ended, 75);
  t.regex(said.at(-1)!, /exit code 75: stopped early/);
});

test('what asks the agent to end has the coordinator save, and it waits for its word', async (t) => {
  const coordinator = await FakeCoordinator.listen(t);
  const { agent } = await start(t, { join: coordinator.endpoint });
  await coordinator.next('join');
  await coordinator.say('welcome', {});
  await coordinator.say('beat', { number: 1, workers: [] });
  await coordinator.next('beat');
  for (const _ of [1, 2]) agent.requestStop('SIGTERM');
  t.like((await coordinator.next('stop')).body, { reason: 'SIGTERM' });
  t.is(await Promise.race([agent.ended, delay(50, 'still there')]), 'still there');
  await coordinator.say('end', { code: 75, reason: 'saved' });
  t.is(await agent.ended, 75);
});

test('an agent that no coordinator has let in ends at once when it is asked to, to be started again', async (t) => {
  const { agent } = await start(t, { join: 'tcp://127.0.0.1:9' });
  agent.requestStop('SIGTERM');
  t.is(await agent.ended, 75);
});

test('a coordinator that never comes is given up, to be started again', async (t) => {
  const { agent, said } = await start(t, { join: 'tcp://127.0.0.1:9', patienceSeconds: 3 });
  t.is(await agent.ended, 75);
  t.regex(said.at(-1)!, /nothing was heard of the coordinator at tcp:\/\/127\.0\.0\.1:9 for 3 s/);
});

test('a refusal that no later try could change ends the agent', async (t) => {
  const coordinator = await FakeCoordinator.listen(t);
  const { agent } = await start(t, { join: coordinator.endpoint });
  await coordinator.next('join');
  await coordinator.say('refused', {
    error: { code: 'SLUICE_E_HOST_DIFFERS', message: 'other arithmetic', details: {} },
  });
  t.is(await agent.ended, 2);
});

test('malformed frames from the coordinator change nothing', async (t) => {
  allowLongRun(t);
  const coordinator = await FakeCoordinator.listen(t);
  const { agent } = await start(t, { join: coordinator.endpoint });
  await coordinator.next('join');
  const messages = [
    [PROTOCOL_VERSION, 'beat', { number: 1, workers: ['a'] }],
    [PROTOCOL_VERSION, 'kill', { number: 2, id: 'a' }],
    [
      PROTOCOL_VERSION,
      'files',
      { act: 'write', ask: 1, place: 'memory', path: 'a', offset: 0, bytes: Buffer.alloc(9) },
    ],
    [PROTOCOL_VERSION, 'told', { answer: {} }],
  ] as const;
  let sent = 0;
  for (const frame of malformedFrames(3, FRAMES, messages)) {
    // A version that is not spoken is a reason to end.
    if (frame[1] !== PROTOCOL_VERSION) continue;
    await coordinator.sayRaw(frame);
    if (sent++ % 500 === 0) await delay(1);
  }
  t.true(sent > FRAMES / 4);
  await coordinator.say('welcome', {});
  await coordinator.say('beat', { number: 7, workers: [] });
  for (;;) {
    const { body } = await coordinator.next('beat');
    if ((body as { heard: number }).heard === 7) break;
  }
  await coordinator.say('end', { code: 0, reason: 'done' });
  t.is(await agent.ended, 0);
});
