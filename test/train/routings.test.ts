/** Experts among real processes, however uneven the routing is: some get no token, or one gets them all. */

import { fileURLToPath } from 'node:url';
import { type HashedPiece, hashPiece, hashTensors } from '@sluice/checkpoint';
import { savedTensors } from '@sluice/train';
import test from 'ava';
import { type Routing, routedRun, sendTo } from './support/routedRun.ts';
import { tinyTrainer } from './support/tinyTrainer.ts';
import { startWorkers } from './support/workers.ts';

const entry = fileURLToPath(new URL('./routingWorker.ts', import.meta.url));

interface Trained {
  readonly losses: readonly number[];
  readonly loads: readonly (readonly number[])[];
  readonly pieces: readonly HashedPiece[];
}

const ROUTINGS: readonly { readonly name: string; readonly shunned: Routing; readonly busy: Routing }[] = [
  { name: 'what the router wants', shunned: [], busy: [0, 1, 2, 3] },
  { name: 'all tokens to one expert', shunned: [0, 1, 3], busy: [2] },
  { name: 'nothing to the experts of a worker', shunned: [2, 3], busy: [0, 1] },
  { name: 'one expert of each pair', shunned: [0, 3], busy: [1, 2] },
];

const hashOf = (pieces: readonly HashedPiece[]) => hashTensors(savedTensors(routedRun()), pieces);

async function alone(shunned: Routing): Promise<Trained> {
  const trainer = await tinyTrainer(routedRun());
  sendTo(trainer, shunned);
  const first = await trainer.trainStep({ step: 1, learningRate: 0.01 });
  const second = await trainer.trainStep({ step: 2, learningRate: 0.01 });
  return {
    losses: [first.loss, second.loss],
    loads: second.expertLoad!,
    pieces: trainer.pieces().map(hashPiece),
  };
}

for (const [world, expertParallels, transport] of [
  [4, [4, 2, 1], 'ipc'],
  [2, [2], 'tcp'],
] as const)
  test.serial(`${world} processes over ${transport}: no routing changes a bit`, async (t) => {
    const server = await startWorkers(t, entry, world, transport);
    for (const { name, shunned, busy } of ROUTINGS) {
      const expected = await alone(shunned);
      for (const layer of expected.loads) {
        t.deepEqual(
          layer.flatMap((load, expert) => (load > 0 ? [expert] : [])),
          [...busy],
          name,
        );
      }
      for (const expertParallel of expertParallels) {
        const what = `${name}, ${expertParallel} workers share the experts`;
        const answers = await server.callAll<Trained>('train', { routing: shunned, expertParallel });
        for (const { losses } of answers) t.deepEqual(losses, expected.losses, what);
        const pieces = answers.flatMap((answer) => answer.pieces);
        t.deepEqual(hashOf(pieces), hashOf(expected.pieces), what);
      }
    }
  });
