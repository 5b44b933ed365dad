/** NCCL, as it is called, against the emulator's, which is two ranks of one process here. */

import { SluiceError } from '@sluice/core';
import { type DeviceArray, Emulator, emulatedNccl, flat, Nccl, ncclVersion } from '@sluice/engine/cuda';
import test from 'ava';

const { device } = new Emulator();
const { driver } = device;
const nccl = new Nccl(driver.library);
const fake = emulatedNccl(driver.library);

const bytesOf = ({ address, length }: DeviceArray) => ({ address, bytes: 4 * length });
const NOTHING = { address: 0, bytes: 0 };
const upload = (...values: number[]) => device.upload(Float32Array.from(values), 'f32');
const empty = (length: number) => device.allocate(length, 'f32');

type Side = ReturnType<typeof pair>[number];

/** Two ranks of a new communicator, each with a stream of its own. */
function pair() {
  const name = nccl.newName();
  const sides = [0, 1].map((rank) => ({
    rank,
    stream: driver.makeStream(),
    communicator: nccl.connect(name, rank, 2),
  }));
  until(() => sides.filter(({ communicator }) => nccl.isReady(communicator)).length === 2);
  return sides;
}

function until(isDone: () => boolean): void {
  const end = performance.now() + 10_000;
  while (!isDone()) if (performance.now() > end) throw new Error('it takes too long');
}

/** Asks for a send and a receive, each if there is one. */
function ask({ rank, stream, communicator }: Side, sent?: DeviceArray, received?: DeviceArray) {
  return driver.beside(stream, () => {
    const transfer = {
      send: sent ? bytesOf(sent) : NOTHING,
      receive: received ? bytesOf(received) : NOTHING,
    };
    nccl.exchange(communicator, [{ peer: 1 - rank, ...transfer }], stream);
    until(() => nccl.isReady(communicator));
  });
}

/** The error that ends the wait for a side. */
function failureOf({ communicator }: Side, moment: { isReached(): boolean }): SluiceError {
  try {
    until(() => nccl.isReady(communicator) && moment.isReached());
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  throw new Error('nothing went wrong');
}

test.serial('bytes go both ways, in the order in which they were sent', (t) => {
  t.is(ncclVersion(nccl.version), 'NCCL 2.32.3');
  const [a, b] = pair() as [Side, Side];
  fake.calls();
  const [one, two, three] = [empty(3), empty(2), empty(1)];
  const moments = [
    ask(a, upload(1, 2, 3), three),
    ask(a, upload(4, 5)),
    ask(b, upload(6), one),
    ask(b, undefined, two),
  ];
  t.false(moments[0]!.isReached());
  const left = new Set(moments);
  until(() => {
    for (const moment of left) if (moment.isReached()) left.delete(moment);
    return left.size === 0;
  });
  t.deepEqual([...one.read(), ...two.read(), ...three.read()], [1, 2, 3, 4, 5, 6]);
  t.deepEqual(fake.calls(), { groups: 4, sends: 3, receives: 3, bytesSent: 24, aborts: 0 });
});

test.serial(
  'what follows on the stream waits for what is to come, and what was asked for before it does not',
  (t) => {
    const [a, b] = pair() as [Side, Side];
    const [received, sum] = [empty(2), upload(10, 20)];
    const moment = driver.beside(a.stream, () => {
      nccl.exchange(a.communicator, [{ peer: 1, send: NOTHING, receive: bytesOf(received) }], a.stream);
      until(() => nccl.isReady(a.communicator));
      flat.sumTree(sum, [sum, received]);
    });
    t.false(moment.isReached());
    // Who reads the sum now reads what another stream writes.
    t.deepEqual([...upload(3, 4).read()], [3, 4]);
    ask(b, upload(1, 2));
    until(() => moment.isReached());
    t.deepEqual([...sum.read()], [11, 22]);
  },
);

test.serial('a send that nobody receives is an error, and so are sizes that differ', (t) => {
  fake.limit(50);
  t.teardown(() => fake.limit(120_000));
  const [a] = pair() as [Side, Side];
  const alone = failureOf(a, ask(a, upload(1, 2)));
  t.is(alone.code, 'SLUICE_E_NCCL');
  t.regex(alone.message, /wait without end for a send to rank 1 of 8 bytes/);

  const [c, d] = pair() as [Side, Side];
  ask(c, upload(1, 2));
  const different = failureOf(d, ask(d, undefined, empty(1)));
  t.regex(different.message, /rank 0 sends 8 bytes where rank 1 receives 4/);
});

test.serial('a rank that is gone ends the wait of the other', (t) => {
  const [a, b] = pair() as [Side, Side];
  const moment = ask(a, undefined, empty(1));
  t.false(moment.isReached());
  nccl.abort(b.communicator);
  t.regex(failureOf(a, moment).message, /^NCCL failed: remote process exited.*connection with rank 1 broke/);
  // What waits on the stream goes on.
  nccl.abort(a.communicator);
  until(() => moment.isReached());
});

test.serial('nothing is asked for while what was asked for before is not on its stream', (t) => {
  const [a] = pair() as [Side, Side];
  const transfer = { peer: 1, send: bytesOf(upload(1)), receive: NOTHING };
  nccl.exchange(a.communicator, [transfer], a.stream);
  const error = t.throws(() => nccl.exchange(a.communicator, [transfer], a.stream), {
    instanceOf: SluiceError,
  })!;
  t.regex(error.message, /ncclSend failed.*still being launched/);
});

test.serial('a library that is no NCCL is refused', (t) => {
  t.throws(() => new Nccl('libc.so.6'), { code: 'SLUICE_E_NCCL', message: /cannot be opened/ });
});
