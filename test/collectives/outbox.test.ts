import { Outbox } from '@sluice/collectives/control';
import test from 'ava';

/** A socket that takes a message when it is told to. */
function slowSocket() {
  const taken: string[] = [];
  const answers: ((error?: Error) => void)[] = [];
  const send = (message: string) => {
    taken.push(message);
    return new Promise<void>((resolve, reject) => {
      answers.push((error) => (error ? reject(error) : resolve()));
    });
  };
  return { taken, send, answer: (error?: Error) => answers.shift()!(error) };
}

const turn = () => new Promise(setImmediate);

test('the socket gets one message at a time, in order', async (t) => {
  const { taken, send, answer } = slowSocket();
  const outbox = new Outbox(send);
  t.true(outbox.isEmpty);
  for (const message of ['a', 'b', 'c']) outbox.push(message);
  await turn();
  t.deepEqual(taken, ['a']);
  t.false(outbox.isEmpty);
  answer();
  await turn();
  t.deepEqual(taken, ['a', 'b']);
  const emptied = outbox.emptied();
  answer();
  await turn();
  answer();
  await emptied;
  t.deepEqual(taken, ['a', 'b', 'c']);
  t.true(outbox.isEmpty);
  outbox.push('d');
  t.is(taken.at(-1), 'd');
});

test('a message that the socket refuses is dropped, or ends the sending, as was asked for', async (t) => {
  for (const [onFailure, sent] of [
    ['drop', ['a', 'b']],
    ['end', ['a']],
  ] as const) {
    const { taken, send, answer } = slowSocket();
    const outbox = new Outbox(send, onFailure);
    outbox.push('a');
    outbox.push('b');
    const emptied = outbox.emptied();
    answer(new Error('nobody there'));
    await turn();
    t.deepEqual(taken, sent);
    if (onFailure === 'drop') answer();
    else await t.throwsAsync(emptied, { message: 'nobody there' });
    await turn();
  }
});
