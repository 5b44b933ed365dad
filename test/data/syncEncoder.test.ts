import { SluiceError } from '@sluice/core';
import test from 'ava';
import { ask, type SyncRequest, startThread } from '../../packages/data/src/tokenizer/syncEncoder.ts';

/** The compiled thread: the loader of tests waits for this one, which waits for the thread. */
const ENTRY = new URL('tokenizer/encodeThread.js', import.meta.resolve('@sluice/data'));

test('a thread that cannot start is told as such, and not waited for', (t) => {
  const entry = new URL('data:text/javascript,throw new Error("no such library")');
  const error = t.throws(() => startThread(entry, 500), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_TOKENIZER_LIBRARY');
  t.regex(error?.message ?? '', /did not start within 0\.5 s/);
});

test('a thread that ends instead of replying is told as such, then and later', (t) => {
  const channel = startThread(ENTRY);
  // No request: an error that the thread does not expect.
  const broken = undefined as unknown as SyncRequest;
  for (let i = 0; i < 2; i++) {
    const error = t.throws(() => ask(channel, broken), { instanceOf: SluiceError });
    t.is(error?.code, 'SLUICE_E_TOKENIZER_LIBRARY');
    t.regex(error?.message ?? '', /has ended/);
  }
});
