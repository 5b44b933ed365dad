/** An agent and its coordinator, and what becomes of them when the link between them fails in one way or another. */

import { generateCurveKeys, TcpProxy } from '@sluice/collectives';
import test, { type ExecutionContext } from 'ava';
import { Agent } from '../../../launcher/src/fleet/agent.ts';
import { ownBuild } from '../../../launcher/src/fleet/build.ts';
import { FleetServer } from '../../../launcher/src/fleet/fleetServer.ts';

/** What the coordinator saw, one line each: `joined`, `lost: REASON`, `stop: REASON`. */
class Story {
  readonly lines: string[] = [];
  #onLine: () => void = () => {};

  tell(line: string): void {
    this.lines.push(line);
    this.#onLine();
  }

  /** Resolves when so many lines have been told. */
  async reaches(count: number): Promise<readonly string[]> {
    while (this.lines.length < count) {
      await new Promise<void>((resolve) => {
        this.#onLine = resolve;
      });
    }
    return this.lines;
  }
}

/** An agent that has joined its coordinator over a link that can fail. */
async function joined(t: ExecutionContext) {
  const curve = generateCurveKeys();
  const story = new Story();
  const server = await FleetServer.listen(
    { endpoint: 'tcp://127.0.0.1:0', curve, build: ownBuild() },
    {
      joined: () => story.tell('joined'),
      lost: (_, reason) => story.tell(`lost: ${reason}`),
      refused: (_, error) => story.tell(`refused: ${error.message}`),
      stop: (reason) => story.tell(`stop: ${reason}`),
      asked: () => ({}),
    },
  );
  const proxy = await TcpProxy.open(Number(server.endpoint.split(':').at(-1)));
  let welcomed!: () => void;
  const welcome = new Promise<void>((resolve) => {
    welcomed = resolve;
  });
  const agent = new Agent({
    join: `tcp://127.0.0.1:${proxy.port}`,
    curve,
    node: 'one',
    patienceSeconds: 300,
    log: (line) => {
      if (line.startsWith('joined')) welcomed();
    },
  });
  t.teardown(async () => {
    await agent.finish(0, 'the test has ended');
    await server.end(0, 'the test has ended', 100);
    await proxy.close();
  });
  await agent.start();
  t.deepEqual(await story.reaches(1), ['joined']);
  await welcome;
  /** Resolves once a message has gone from the agent to the coordinator. */
  const speaks = async () => {
    const before = story.lines.length;
    agent.requestStop('test');
    const told = await story.reaches(before + 1);
    t.is(told.at(-1), 'stop: one: test');
  };
  return { agent, proxy, server, story, speaks };
}

test('a slow link is used like any other', async (t) => {
  const { proxy, story, speaks } = await joined(t);
  proxy.delay(300);
  await speaks();
  t.deepEqual(story.lines, ['joined', 'stop: one: test']);
});

test('a link that stands still for a moment loses nothing, and nobody', async (t) => {
  const { agent, proxy, story } = await joined(t);
  proxy.stall();
  agent.requestStop('while it stood still');
  await new Promise((resolve) => setTimeout(resolve, 3000));
  proxy.mend();
  t.deepEqual(await story.reaches(2), ['joined', 'stop: one: while it stood still']);
});

test('a link that is cut is made anew, by the same agent', async (t) => {
  const { proxy, server, story, speaks } = await joined(t);
  const [host] = server.hosts;
  proxy.cut();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  proxy.mend();
  // What is said while there is no connection is not kept.
  while (host!.timesHeard < 4) await new Promise((resolve) => setTimeout(resolve, 50));
  await speaks();
  t.is(server.hosts[0], host);
  t.false(story.lines.includes('joined', 1));
});

test('an agent that is not heard of for long is lost, and joins again when the link is mended', async (t) => {
  t.timeout(120_000);
  const { proxy, server, story } = await joined(t);
  const [before] = server.hosts;
  proxy.swallow();
  const [, lost] = await story.reaches(2);
  t.regex(lost!, /^lost: its agent has fallen silent/);
  t.is(server.hosts.length, 0);
  // What was swallowed was acknowledged: the connection is of no use any more.
  proxy.cut();
  proxy.mend();
  t.is((await story.reaches(3))[2], 'joined');
  t.not(server.hosts[0], before);
});

test('a bit that was flipped reaches nobody, and the agent finds another connection', async (t) => {
  t.timeout(120_000);
  const { proxy, server, story } = await joined(t);
  const [host] = server.hosts;
  proxy.corrupt(50);
  const heard = host!.timesHeard;
  // All that is said is damaged: the coordinator hears nothing.
  const [, lost] = await story.reaches(2);
  t.regex(lost!, /^lost: its agent has fallen silent/);
  t.true(host!.timesHeard <= heard + 1);
  proxy.corrupt(0);
  t.is((await story.reaches(3))[2], 'joined');
});
