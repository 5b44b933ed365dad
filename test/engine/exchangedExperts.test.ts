import {
  type ExchangedExperts,
  type ExpertSegment,
  exchangedExperts,
  type StartExchange,
} from '@sluice/engine';
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
  /** Own rows for each peer. */
  readonly rowsToPeer: readonly number[];
  /** Rows of each peer for each own expert. */
  readonly counts: readonly (readonly number[])[];
  readonly channels: number;
  readonly units: number;
  readonly seed: number;
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

const anyCount = fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 2, max: 40 }));
const anyCase: fc.Arbitrary<Case> = fc
  .record({ peers: fc.integer({ min: 2, max: 4 }), experts: fc.integer({ min: 1, max: 3 }) })
  .chain(({ peers, experts }) =>
    fc.record({
      rank: fc.integer({ min: 0, max: peers - 1 }),
      rowsToPeer: fc.array(anyCount, { minLength: peers, maxLength: peers }),
      counts: fc.array(fc.array(anyCount, { minLength: experts, maxLength: experts }), {
        minLength: peers,
        maxLength: peers,
      }),
      channels: fc.integer({ min: 1, max: 24 }),
      units: fc.integer({ min: 1, max: 24 }),
      seed: fc.nat(),
    }),
  )
  .map((example) => {
    // What a worker sends to itself is what it receives from itself.
    const rowsToPeer = example.rowsToPeer.with(example.rank, sum(example.counts[example.rank]!));
    return { ...example, rowsToPeer };
  })
  .filter(({ rowsToPeer }) => sum(rowsToPeer) > 0);

function operandsOf({ rowsToPeer, counts, channels, units, seed }: Case): Operands {
  const experts = counts[0]!.length;
  return {
    x: operand(seed, [sum(rowsToPeer), channels]),
    gateUp: operand(seed + 1, [experts, 2 * units, channels]),
    down: operand(seed + 2, [experts, channels, units]),
  };
}

function segmentsOf({ counts }: Case): ExpertSegment[] {
  let begin = 0;
  return counts.flatMap((ofExperts, source) =>
    ofExperts.map((count, expert) => {
      begin += count;
      return { source, expert, begin: begin - count, count };
    }),
  );
}

/** Peers that send the same random rows in every run. What they get is noted, in order of exchange and peer. */
function peersOf({ rank, seed }: Case, come: boolean) {
  const got: number[][][] = [];
  const start: StartExchange = (send, rowsToPeer, receive, rowsFromPeer, width) => {
    const exchange = got.length;
    got.push(
      rowsToPeer.map(({ begin, end }, peer) =>
        peer === rank ? [] : [...send.subarray(begin * width, end * width)],
      ),
    );
    let done = come;
    return {
      get done() {
        return done;
      },
      wait() {
        if (done && !come) return;
        done = true;
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
  return { got, start };
}

function run(backend: string, example: Case, come = true) {
  const { rank, rowsToPeer, counts } = example;
  const { got, start } = peersOf(example, come);
  const rowsFromPeer = counts.map(sum);
  const travel: Omit<ExchangedExperts, 'gateUp' | 'down'> = {
    start,
    rank,
    rowsToPeer,
    rowsFromPeer,
    segments: segmentsOf(example),
  };
  const results = runOperation(
    backend,
    ({ x, gateUp, down }) =>
      exchangedExperts(x!.onTape() as tf.Tensor2D, { ...travel, gateUp: gateUp!, down: down! }),
    operandsOf(example),
    counts.length,
  );
  return { results, got };
}

test('the native kernel agrees with the reference, and sends the same to every peer', (t) => {
  fc.assert(
    fc.property(anyCase, fc.boolean(), (example, come) => {
      const native = run('native', example, come);
      const reference = run('cpu', example);
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

test('whether peers’ rows have come already changes no bit', (t) => {
  fc.assert(
    fc.property(anyCase, (example) => {
      const [early, late] = [run('native', example, true), run('native', example, false)];
      t.deepEqual(early.results, late.results);
      t.deepEqual(early.got, late.got);
    }),
    { numRuns: 30 },
  );
});

test('the number of threads changes no bit', (t) => {
  const example: Case = {
    rank: 1,
    rowsToPeer: [300, 210],
    counts: [
      [1, 700],
      [200, 10],
    ],
    channels: 20,
    units: 30,
    seed: 5,
  };
  const travel = {
    rank: 1,
    rowsToPeer: example.rowsToPeer,
    rowsFromPeer: [701, 210],
    segments: segmentsOf(example),
  };
  const operation: Operation = ({ x, gateUp, down }) =>
    exchangedExperts(x!.onTape() as tf.Tensor2D, {
      ...travel,
      start: peersOf(example, false).start,
      gateUp: gateUp!,
      down: down!,
    });
  t.true(threadsChangeNoBit(operation, operandsOf(example), [1, 2, 3], 2));
});
