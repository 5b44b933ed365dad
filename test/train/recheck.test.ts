import { fileURLToPath } from 'node:url';
import { hostArray } from '@sluice/engine';
import type { RecheckResult } from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import { blame, type Differences, handOn } from '../../packages/train/src/recheck.ts';
import type { Topology } from '../../packages/train/src/topology.ts';
import type { Flip } from './recheckWorker.ts';
import { counting, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';
import { startWorkers } from './support/workers.ts';

const entry = fileURLToPath(new URL('./recheckWorker.ts', import.meta.url));

/** Pseudo-random numbers in [0, 1), the same in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Taken extends Partial<RecheckResult> {
  readonly loss: number;
  readonly gradientNorm: number;
}

/** Real processes that take steps together. */
async function startTaking(t: ExecutionContext, worldSize: number, expertParallel: number) {
  const server = await startWorkers(t, entry, worldSize);
  await server.callAll('begin', { expertParallel });
  return async (flip?: Flip): Promise<Taken> => {
    const answers = await server.callAll<Taken>('take', { ...(flip && { flip }) });
    for (const answer of answers) t.deepEqual(answer, answers[0]);
    return answers[0]!;
  };
}

for (const [world, expertParallel] of [
  [2, 1],
  [4, 1],
  [4, 2],
] as const) {
  test.serial(
    `of ${world} workers, ${expertParallel} to a set of experts, the one that flips a bit is named`,
    async (t) => {
      const take = await startTaking(t, world, expertParallel);
      const random = numbers(world + expertParallel);
      for (let bit = 17; bit < 32; bit += 2) {
        const flip = {
          rank: Math.floor(random() * world),
          place: random(),
          bit,
          space: Math.floor(random() * 2),
          passes: 1,
        };
        const clean = await take();
        t.like(clean, { identical: true, suspects: [] });
        t.is(clean.first!.loss, clean.loss);
        const { identical, suspects } = await take(flip);
        t.deepEqual(
          { identical, suspects },
          { identical: false, suspects: [flip.rank] },
          JSON.stringify(flip),
        );
      }
    },
  );
}

test.serial(
  'the step goes on with the numbers of those that agree, so that it ends in the same bits',
  async (t) => {
    const take = await startTaking(t, 2, 2);
    const other = await startTaking(t, 2, 2);
    for (let i = 0; i < 6; i++) {
      const flip = { rank: i % 2, place: 0.31 * (i % 3), bit: 30, space: 0, passes: 1 };
      const wrong = await take(i % 2 === 0 ? flip : undefined);
      const right = await other();
      t.is(wrong.loss, right.loss);
      t.is(wrong.gradientNorm, right.gradientNorm);
      if (i % 2 === 0) t.not(wrong.first?.gradientNorm, right.gradientNorm);
    }
  },
);

test.serial('a worker that is wrong every time is found by four, and no number is trusted', async (t) => {
  const take = await startTaking(t, 4, 1);
  for (let i = 0; i < 8; i++) {
    const flip = { rank: i % 4, place: 0.1 * i, bit: 25, space: 0, passes: 3 };
    const { identical, suspects } = await take(flip);
    t.false(identical);
    t.deepEqual(suspects, [i % 4]);
  }
});

test.serial('a worker alone finds what it got wrong once, and nothing where nothing is wrong', async (t) => {
  const trainer = await tinyTrainer(tinyRun(), { source: counting(3) });
  const random = numbers(7);
  for (let bit = 0; bit < 32; bit++) {
    const step = bit + 1;
    const { expertLoads } = trainer;
    const clean = await trainer.trainStep({ step, learningRate: 0, recheck: 'always' });
    trainer.expertLoads = expertLoads;
    t.true(clean.recheck?.identical);
    const parameters = trainer.spaces.flatMap(({ space }) =>
      space.parameters.map((placed) => ({ space, placed })),
    );
    const { space, placed } = parameters[Math.floor(random() * parameters.length)]!;
    const place = placed.offset + Math.floor(random() * placed.spec.size);
    let isDone = false;
    trainer.tamper = (part) => {
      if (isDone || part.space !== space || part.stage !== placed.spec.stage) return;
      isDone = true;
      const { buffer, byteOffset, length } = hostArray(part.contribution);
      new Uint32Array(buffer, byteOffset, length)[place]! ^= 1 << bit;
    };
    const { recheck, gradientNorm } = await trainer.trainStep({ step, learningRate: 0, recheck: 'always' });
    trainer.tamper = undefined;
    t.like(recheck, { identical: false, suspects: [0] });
    t.is(gradientNorm, clean.gradientNorm);
  }
});

test('lanes are handed to other workers in each pass, and among those that share experts only where there is one set', (t) => {
  const of = (rank: number, size: number, shared: number) =>
    ({ rank, size, experts: { size: shared } }) as unknown as Topology;
  const positions = (size: number, shared: number, times: number) =>
    Array.from({ length: size }, (_, rank) => handOn(of(rank, size, shared), times).position);
  t.deepEqual(positions(4, 1, 0), [0, 1, 2, 3]);
  t.deepEqual(positions(4, 1, 1), [1, 2, 3, 0]);
  t.deepEqual(positions(4, 2, 1), [2, 3, 0, 1]);
  t.deepEqual(positions(4, 4, 1), [1, 2, 3, 0]);
  t.deepEqual(positions(2, 1, 2), [0, 1]);
  t.is(handOn(of(0, 4, 4), 1).sourceShift, 1);
  t.is(handOn(of(0, 4, 2), 1).sourceShift, 0);
  t.is(handOn(of(0, 4, 1), 1).performer(0), 3);
});

test('where three passes differ from each other, nobody is named and the last is not trusted', (t) => {
  const differing: Differences = {
    slices: [
      [
        [false, true],
        [false, false],
      ],
    ],
    losses: [false, false],
  };
  const same: Differences = {
    slices: [
      [
        [false, false],
        [false, false],
      ],
    ],
    losses: [false, false],
  };
  const performers = [0, 1, 0].map((shift) => (position: number) => (position + shift) % 2);
  t.deepEqual(blame({ performers, firstSecond: differing, firstThird: differing, secondThird: differing }), {
    suspects: [],
    isSound: false,
  });
  t.deepEqual(blame({ performers, firstSecond: differing, firstThird: differing, secondThird: same }), {
    suspects: [0],
    isSound: true,
  });
  t.deepEqual(blame({ performers, firstSecond: differing, firstThird: same, secondThird: differing }), {
    suspects: [1],
    isSound: true,
  });
});
