import { OperationRecord } from '@sluice/collectives';
import test from 'ava';
import { BlockedTime } from '../../packages/collectives/src/blockedTime.ts';
import { type OutsideHost, OutsideOperation } from '../../packages/collectives/src/outsideOperation.ts';

interface Host extends OutsideHost {
  served: number;
  limitMs: number;
}

function makeHost(changes: Partial<Host> = {}): Host {
  return {
    ...{ rank: 0, limitMs: 10_000, served: 0, blocked: new BlockedTime() },
    checkAlive: () => {},
    waitsIn: () => {},
    servePeers() {
      this.served++;
    },
    ...changes,
  };
}

const sum = (isDone: () => boolean) => ({ name: 'reduceScatter', ranks: [0, 2], bytes: 8, isDone }) as const;

test('a device’s operation is waited for while peers are served, and recorded as any other', (t) => {
  const host = makeHost();
  host.blocked.record = new OperationRecord();
  let left = 5;
  const operation = new OutsideOperation(
    sum(() => --left === 0),
    0,
    host,
  );
  t.false(operation.done);
  operation.wait();
  t.true(operation.done);
  t.true(host.served > 0);
  // Nobody is asked again.
  t.is(left, 0);
  const [span] = host.blocked.record.operations;
  t.like(span, { name: 'reduceScatter', group: [0, 2], bytes: 8 });
  t.true(Number.isFinite(span!.ended));
  t.is(host.blocked.record.waits.length, 1);
});

test('the wait ends at its limit, with whom it was for, and as soon as a peer is lost', (t) => {
  const never = (host: Host) =>
    new OutsideOperation(
      sum(() => false),
      3,
      host,
    );
  t.throws(() => never(makeHost({ limitMs: 20 })).wait(), {
    code: 'SLUICE_E_COLLECTIVE_TIMEOUT',
    message: /Rank 0 waited 0.02 s in reduceScatter 3 of group \[0, 2\] for rank 2/,
  });
  const checkAlive = (ranks: readonly number[]) => {
    throw new Error(`lost of ${ranks}`);
  };
  t.throws(() => never(makeHost({ checkAlive })).wait(), { message: 'lost of 0,2' });
});
