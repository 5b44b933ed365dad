import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { followingParent, watchParent } from '../../launcher/src/signals/parentWatch.ts';
import { installStopSignal } from '../../launcher/src/signals/stopSignal.ts';

function install() {
  const source = new EventEmitter();
  const calls: string[] = [];
  const clock = { now: 0 };
  const stop = installStopSignal({
    source,
    now: () => clock.now,
    onRequest: () => calls.push('request'),
    onAbort: () => calls.push('abort'),
  });
  return { source, calls, clock, stop };
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  test(`the first ${signal} asks for an orderly stop, the second aborts`, (t) => {
    const { source, calls, clock, stop } = install();
    t.false(stop.requested);
    source.emit(signal);
    t.true(stop.requested);
    t.deepEqual(calls, ['request']);
    clock.now = 600;
    source.emit('SIGINT');
    t.deepEqual(calls, ['request', 'abort']);
  });
}

test('one Ctrl-C that arrives twice, from the terminal and from npm, counts once', (t) => {
  const { source, calls, clock } = install();
  source.emit('SIGINT');
  clock.now = 30;
  source.emit('SIGINT');
  t.deepEqual(calls, ['request']);
});

test('the end of the parent asks for a stop only where npm, or a command that it is a part of, started the command', async (t) => {
  for (const [environment, expected] of [
    [{ npm_command: 'exec' }, 1],
    [followingParent({}), 1],
    [{}, 0],
  ] as const) {
    let [parent, looks, gone] = [100, 0, 0];
    const look = () => {
      looks++;
      return parent;
    };
    const unwatch = watchParent(() => gone++, { environment, parent: look, everyMs: 1 });
    /** Until it has looked twice more, where it looks at all. */
    const lookedTwice = async () => {
      const before = looks;
      do await delay(5);
      while (expected > 0 && looks < before + 2);
    };
    await lookedTwice();
    t.is(gone, 0);
    parent = 1;
    await lookedTwice();
    t.is(gone, expected);
    unwatch();
  }
});

test('a stop asked for by other means counts as the first signal', (t) => {
  const { source, calls, clock, stop } = install();
  stop.request();
  stop.request();
  t.deepEqual(calls, ['request']);
  clock.now = 600;
  source.emit('SIGTERM');
  t.deepEqual(calls, ['request', 'abort']);
});

test('a hang-up asks for a stop, and is nobody’s second word', (t) => {
  const { source, calls, clock, stop } = install();
  source.emit('SIGHUP');
  t.true(stop.requested);
  for (const signal of ['SIGHUP', 'SIGTERM']) {
    clock.now += 600;
    source.emit(signal);
  }
  t.deepEqual(calls, ['request']);
  clock.now += 600;
  source.emit('SIGTERM');
  t.deepEqual(calls, ['request', 'abort']);
});

test('schedulers’ SIGUSR1 asks for a stop, and is nobody’s second word', (t) => {
  const { source, calls, clock, stop } = install();
  for (let i = 0; i < 3; i++) {
    source.emit('SIGUSR1');
    clock.now += 600;
  }
  t.true(stop.requested);
  t.deepEqual(calls, ['request']);
});

test('where hang-ups are ignored, none is listened for', (t) => {
  const source = new EventEmitter();
  installStopSignal({ source, hangUps: false, onRequest: () => {}, onAbort: () => {} });
  t.is(source.listenerCount('SIGHUP'), 0);
});

test('a parent that the same ignored hang-up has ended asks for no stop', async (t) => {
  let parent = 100;
  let gone = 0;
  const environment = { npm_command: 'exec' };
  const unwatch = watchParent(() => gone++, {
    environment,
    parent: () => parent,
    everyMs: 1,
    hungUp: () => true,
  });
  parent = 1;
  await delay(30);
  t.is(gone, 0);
  unwatch();
});

test('uninstalled, signals mean what they meant before', (t) => {
  const { source, calls, stop } = install();
  stop.uninstall();
  source.emit('SIGINT');
  t.deepEqual(calls, []);
  t.deepEqual(source.eventNames(), []);
});
