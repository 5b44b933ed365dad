import { EventEmitter } from 'node:events';
import test from 'ava';
import { runProgram } from '../../launcher/src/backends/runProgram.ts';
import { exitCodeOf } from '../../launcher/src/cli/output.ts';
import { processStart } from '../../launcher/src/run/processIdentity.ts';
import { interruptible } from '../../launcher/src/signals/interruptible.ts';
import { failureOf } from '../support/failureOf.ts';

test('without a signal, what the work came to is handed on, and nothing listens any more', async (t) => {
  const source = new EventEmitter();
  t.is(await interruptible(async () => 7, source), 7);
  await t.throwsAsync(
    interruptible(async () => {
      throw new Error('its own');
    }, source),
    { message: 'its own' },
  );
  t.deepEqual(source.eventNames(), []);
});

test('work that a signal cuts off is interrupted, whatever it says of it', async (t) => {
  const source = new EventEmitter();
  const cutOff = async (signal: AbortSignal) => {
    source.emit('SIGTERM');
    t.true(signal.aborted);
    throw new Error('cut off');
  };
  const error = await failureOf(interruptible(cutOff, source));
  t.is(error.code, 'SLUICE_E_INTERRUPTED');
  t.is(exitCodeOf(error), 130);
});

test('work that comes to its end in spite of a signal has come to its end', async (t) => {
  const source = new EventEmitter();
  const finished = async () => {
    source.emit('SIGINT');
    return 'written';
  };
  t.is(await interruptible(finished, source), 'written');
});

test.serial('a program that is waited for ends with the interruption', async (t) => {
  const script = 'console.log(process.pid); setInterval(() => {}, 1000)';
  let pid = 0;
  const running = runProgram('Waiting', { command: process.execPath, args: ['-e', script] }, (line) => {
    pid = Number(line);
    // As Ctrl-C would, which must not end the process of the test.
    process.emit('SIGINT');
  });
  t.is((await failureOf(running)).code, 'SLUICE_E_INTERRUPTED');
  t.is(processStart(pid), undefined);
});
