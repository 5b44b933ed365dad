import { EventEmitter } from 'node:events';
import test from 'ava';
import { installStopSignal } from '../../launcher/src/coordinator/stopSignal.ts';

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

test('uninstalled, signals mean what they meant before', (t) => {
  const { source, calls, stop } = install();
  stop.uninstall();
  source.emit('SIGINT');
  t.deepEqual(calls, []);
  t.is(source.listenerCount('SIGTERM'), 0);
});
