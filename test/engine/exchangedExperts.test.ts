import { type ExchangedExperts, exchangedExperts, type StartExchange } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import {
  type Operands,
  type Operation,
  operand,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

interface Case {
  readonly rank: number;
  /** Own rows for each expert of each peer. */
  readonly counts: readonly (readonly number[])[];
  /** Rows of each peer for each own expert. */
  readonly received: readonly (readonly number[])[];
  readonly channels: number;
  readonly units: number;
  readonly seed: number;
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

const anyCount = fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 2, max: 40 }));
const anyCase: fc.Arbitrary<Case> = fc
  .record({ peers: fc.integer({ min: 2, max: 4 }), experts: fc.integer({ min: 1, max: 3 }) })
  .chain(({ peers, experts }) => {
    const anyCounts = fc.array(fc.array(anyCount, { minLength: experts, maxLength: experts }), {
      minLength: peers,
      maxLength: peers,
    });
    return fc.record({
      rank: fc.integer({ min: 0, max: peers - 1 }),
      counts: anyCounts,
      received: anyCounts,
      channels: fc.integer({ min: 1, max: 24 }),
      units: fc.integer({ min: 1, max: 24 }),
      seed: fc.nat(),
    });
  })
  .map((example) => {
    // What a worker sends to itself is what it receives from itself.
    const { rank, counts, received } = example;
    return { ...example, received: received.map((own, peer) => (peer === rank ? counts[peer]! : own)) };
  })
  .filter(({ counts }) => sum(counts.flat()) > 0);

function operandsOf({ counts, channels, units, seed }: Case): Operands {
  const experts = counts[0]!.length;
  return {
    x: operand(seed, [sum(counts.flat()), channels]),
    gateUp: operand(seed + 1, [experts, 2 * units, channels]),
    down: operand(seed + 2, [experts, channels, units]),
  };
}

/** When what peers send is there: after so many looks, or only when it is waited for. */
type Coming = Readonly<Record<'counts' | 'rows', number>>;

const LOOKS = [0, 1, Number.POSITIVE_INFINITY];
const COMINGS: readonly Coming[] = LOOKS.flatMap((counts) => LOOKS.map((rows) => ({ counts, rows })));

function afterLooks(looks: number): () => boolean {
  let left = looks;
  return () => left-- <= 0;
}

/** Peers that send the same random rows in every run. What they get is noted, in order of exchange and peer. */
function peersOf({ rank, seed, counts, received }: Case, come: Coming) {
  const got: number[][][] = [];
  const start: StartExchange = (send, rowsToPeer, receive, rowsFromPeer, width) => {
    const exchange = got.length;
    got.push(
      rowsToPeer.map(({ begin, end }, peer) =>
        peer === rank ? [] : [...send.subarray(begin * width, end * width)],
      ),
    );
    const haveCome = afterLooks(come.rows);
    return {
      get done() {
        return haveCome();
      },
      wait() {
        rowsFromPeer.forEach(({ begin, end }, peer) => {
          const rows =
            peer === rank
              ? send.subarray(rowsToPeer[peer]!.begin * width, rowsToPeer[peer]!.end * width)
              : operand(seed + 100 * exchange + peer, [end - begin, width]).values;
          receive.set(rows, begin * width);
        });
      },
    };
  };
  const countsHaveCome = afterLooks(come.counts);
  const travel: Omit<ExchangedExperts, 'gateUp' | 'down'> = {
    start,
    rank,
    peers: counts.length,
    counts: Int32Array.from(counts.flat()),
    received: {
      get done() {
        return countsHaveCome();
      },
      wait: () => Int32Array.from(received.flat()),
    },
  };
  const operation: Operation = ({ x, gateUp, down }) =>
    exchangedExperts(x!.onTape() as tf.Tensor2D, { ...travel, gateUp: gateUp!, down: down! });
  return { got, operation };
}

function run(backend: string, example: Case, come: Coming) {
  const { got, operation } = peersOf(example, come);
  const results = runOperation(backend, operation, operandsOf(example), example.counts.length);
  return { results, got };
}

test('the native kernel agrees with the reference, and sends the same to every peer', (t) => {
  fc.assert(
    fc.property(anyCase, fc.constantFrom(...COMINGS), (example, come) => {
      const native = run('native', example, come);
      const reference = run('cpu', example, come);
      t.true(worstError(native.results, reference.results) < 1e-5);
      const flat = (got: number[][][]) => Float32Array.from(got.flat(2));
      t.is(native.got.length, 4, 'there and back, twice');
      t.deepEqual(
        native.got.map((peers) => peers.map((rows) => rows.length)),
        reference.got.map((peers) => peers.map((rows) => rows.length)),
      );
      const [ours, theirs] = [flat(native.got), flat(reference.got)];
      t.true(ours.every((value, i) => Math.abs(value - theirs[i]!) <= 1e-5 * (1 + Math.abs(theirs[i]!))));
    }),
    { numRuns: 40 },
  );
});

test('whether what peers send has come already changes no bit', (t) => {
  fc.assert(
    fc.property(anyCase, (example) => {
      const [first, ...others] = COMINGS.map((come) => run('native', example, come));
      for (const other of others) t.deepEqual(other, first);
    }),
    { numRuns: 12 },
  );
});

test('the number of threads changes no bit', (t) => {
  const example: Case = {
    rank: 1,
    counts: [
      [200, 100],
      [200, 10],
    ],
    received: [
      [1, 700],
      [200, 10],
    ],
    channels: 20,
    units: 30,
    seed: 5,
  };
  const operation: Operation = (operands) =>
    peersOf(example, { counts: Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY }).operation(
      operands,
    );
  t.true(threadsChangeNoBit(operation, operandsOf(example), [1, 2, 3], 2));
});
