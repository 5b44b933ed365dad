/** The lab itself: what its faults do, as programs in its hosts see it. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { Running } from '../support/running.ts';
import { Lab } from './support/lab.ts';

let lab: Lab;
test.before(async () => {
  lab = await Lab.up(3);
});
test.after.always(() => lab?.down());

const ping = (from: string, to: string, ...flags: string[]) =>
  lab.exec(from, ['ssh', '-o', 'ConnectTimeout=1', ...flags, to, 'hostname']);

/** Accepts one connection on port 7000, says what happens to it. */
const LISTENER = `
  const server = require('node:net').createServer((socket) => {
    console.error('connected');
    socket.on('data', (data) => process.stderr.write(data));
    socket.on('close', () => console.error('closed'));
    socket.on('error', (error) => console.error(error.code));
  });
  server.listen(7000, () => console.error('listening'));`;

/** Connects to it and says something every 50 ms, numbered. */
const talker = (address: string) => `
  const socket = require('node:net').connect(7000, '${address}');
  let n = 0;
  socket.on('connect', () => setInterval(() => socket.write(' ' + n++), 50));
  socket.on('close', () => process.exit());
  socket.on('error', () => {});`;

/** A listener in h1 with a talker in h2; both end with the test. */
async function conversation(t: ExecutionContext): Promise<Running> {
  const listener = lab.start('h1', [process.execPath, '-e', LISTENER]);
  t.teardown(() => {
    for (const name of lab.names) for (const { pid } of lab.processes(name)) process.kill(pid, 'SIGKILL');
  });
  await listener.shown('listening');
  lab.start('h2', [process.execPath, '-e', talker(lab.addressOf('h1'))]);
  await listener.shown(' 1');
  return listener;
}

/** What the listener has heard so far; it is ended to find out. */
async function heard(listener: Running): Promise<string> {
  for (const { pid } of lab.processes('h1')) process.kill(pid, 'SIGKILL');
  return (await listener.ended).stderr;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test.serial(
  'hosts have names, addresses and processes of their own, and reach each other by ssh',
  async (t) => {
    for (const name of lab.names) {
      const script =
        "const os = require('os'); console.log(os.hostname(), os.networkInterfaces().eth0[0].address, fs.readdirSync('/dev/shm').length)";
      const { stdout } = await lab.exec(name, [process.execPath, '-e', script]);
      t.is(stdout, `${name} ${lab.addressOf(name)} 0\n`);
    }
    const { stdout, code } = await ping('h1', 'h3');
    t.is(stdout, 'h3\n');
    t.is(code, 0);
    const { code: passed } = await lab.exec('h2', ['ssh', 'h1', 'exit 7']);
    t.is(passed, 7);
    t.deepEqual(lab.processes('h3'), []);
  },
);

test.serial('what runs in a host is listed with a number that signals can be sent to', async (t) => {
  const { ended } = lab.start('h2', ['sleep', '1000']);
  while (lab.processes('h2').length === 0) await pause(10);
  const [{ pid, command }] = lab.processes('h2') as [{ pid: number; command: string }];
  t.is(command, 'sleep 1000');
  t.deepEqual(lab.processes('h1'), []);
  process.kill(pid, 'SIGTERM');
  t.is((await ended).signal, 'SIGTERM');
  t.deepEqual(lab.processes('h2'), []);
});

test.serial('a cut cable ends no connection; all that was sent arrives when it is mended', async (t) => {
  const listener = await conversation(t);
  lab.cut('h2');
  t.is((await ping('h1', 'h2')).code, 255);
  t.is((await ping('h1', 'h3')).code, 0);
  lab.heal('h2');
  t.is((await ping('h1', 'h2')).code, 0);
  // As late as TCP's next attempt, before which it has waited longer each time.
  await listener.shown(' 80');
  const numbers = [...(await heard(listener)).matchAll(/ (\d+)/g)].map((match) => Number(match[1]));
  t.deepEqual(
    numbers,
    numbers.map((_, i) => i),
  );
});

test.serial('two hosts that are separated both reach a third', async (t) => {
  lab.separate('h1', 'h2');
  t.is((await ping('h1', 'h2')).code, 255);
  t.is((await ping('h2', 'h1')).code, 255);
  t.is((await ping('h1', 'h3')).code, 0);
  t.is((await ping('h2', 'h3')).code, 0);
  lab.reunite('h1', 'h2');
  t.is((await ping('h2', 'h1')).code, 0);
});

test.serial('packets are lost and delayed as asked, and nothing is when that is taken back', async (t) => {
  lab.loss('h3', 100);
  t.is((await ping('h1', 'h3')).code, 255);
  lab.loss('h3', 0);
  t.is((await ping('h1', 'h3')).code, 0);

  const send = 'head -c 2000000 /dev/zero | ssh h3 "wc -c"';
  const timed = async () => {
    const start = performance.now();
    t.is((await lab.exec('h1', ['bash', '-c', send])).stdout, '2000000\n');
    return performance.now() - start;
  };
  lab.rate('h3', 8);
  // Two megabytes at one a second; less by what may go at once.
  t.true((await timed()) > 1500);
  lab.rate('h3', 0);
  t.log(`without a limit: ${await timed()} ms`);
});

test.serial('a frozen host stands still, and goes on where it was', async (t) => {
  const listener = await conversation(t);
  lab.freeze('h2');
  const before = lab.processes('h2').length;
  await pause(500);
  const alive = await lab.exec('h1', ['true']);
  t.is(alive.code, 0);
  lab.thaw('h2');
  await pause(300);
  t.is(lab.processes('h2').length, before);
  t.notRegex(await heard(listener), /closed|ECONN/);
});

test.serial('a host that loses power tells nobody; one that is shut down does', async (t) => {
  const listener = await conversation(t);
  await lab.crash('h2');
  await pause(1000);
  t.notRegex(await heard(listener), /closed|ECONN/);
  t.throws(() => lab.start('h2', ['true']), { message: 'h2 is down' });

  await lab.boot('h2');
  t.is((await ping('h1', 'h2')).stdout, 'h2\n');
  const second = await conversation(t);
  await lab.shutdown('h2');
  await second.shown('closed');
  await lab.boot('h2');
  t.deepEqual(lab.processes('h2'), []);
});

test.serial('two labs do not meet, and nothing is left of one that was taken down', async (t) => {
  const other = await Lab.up(1);
  t.is((await other.exec('h1', ['hostname'])).stdout, 'h1\n');
  const reach = await other.exec('h1', ['ssh', '-o', 'ConnectTimeout=1', lab.addressOf('h2'), 'true']);
  t.is(reach.code, 255);
  await other.down();
  t.false(existsSync(other.folder));
  const prefix = other.folder.split('/').at(-1)!;
  t.deepEqual(
    readdirSync('/run/netns').filter((name) => name.startsWith(prefix)),
    [],
  );
});

test.serial(
  'the hosts of a process that is killed end with it, frozen ones too, and its names go with the next lab',
  async (t) => {
    const script = `
    import { Lab } from ${JSON.stringify(new URL('support/lab.ts', import.meta.url).href)};
    const lab = await Lab.up(2);
    lab.start('h1', ['sleep', '1000']);
    while (lab.processes('h1').length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    lab.freeze('h2');
    console.log(JSON.stringify({ folder: lab.folder, sleeper: lab.processes('h1')[0] }));`;
    const words = ['--import=tsx', '--input-type=module', '-e', script];
    const owner = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(owner.stdout, 'data');
    const { folder, sleeper } = JSON.parse(String(line));
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    const isThere = () => existsSync(`/proc/${sleeper.pid}`);
    while (isThere()) await pause(10);
    t.true(existsSync(folder));
    const next = await Lab.up(1);
    t.teardown(() => next.down());
    t.false(existsSync(folder));
  },
);
