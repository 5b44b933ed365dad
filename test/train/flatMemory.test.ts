/** Parameters, gradients and moments in memory that a host cannot reach into: the same bits as in a host's. */

import { fileURLToPath } from 'node:url';
import { type HashedPiece, hashPiece, hashTensors } from '@sluice/checkpoint';
import { type RunConfig, savedTensors } from '@sluice/train';
import test from 'ava';
import { Snapshots } from '../../packages/train/src/snapshots.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { trainerPieces, trainerState } from '../../packages/train/src/trainerState.ts';
import { APART, registerApartBackend } from '../engine/support/apartMemory.ts';
import { routedRun } from './support/routedRun.ts';
import { tinyRun, tinyTrainer } from './support/tinyTrainer.ts';
import { startWorkers } from './support/workers.ts';

registerApartBackend();

const balanced = { count: 4, topK: 2, intermediateSize: 12, balanceBias: { rate: 0.01 } };
const runs: Record<string, RunConfig> = {
  'AdamW, with biases that balance experts': tinyRun({ model: { experts: balanced } }),
  'Muon, QK-clip and a decay of gates': tinyRun({
    model: { qkNorm: false, initializerRange: 0.3 },
    optimizer: { kind: 'muon', qkClip: { threshold: 0.5 }, gateWeightDecay: 0.3, weightDecay: 0.1 },
  }),
  'partial sums that travel as bfloat16': {
    ...tinyRun({ lanes: 4 }),
    parallel: { ...tinyRun({ lanes: 4 }).parallel, gradients: 'bfloat16' },
  },
  'gains around zero, and a head that is the embedding': tinyRun({
    model: { zeroCentredNorms: 'all', tieWordEmbeddings: true },
  }),
};

const copyOf = (trainer: Trainer) =>
  trainerPieces(trainer).map((piece) => ({ ...piece, values: piece.values.slice() }));

async function trained(backend: string, run: RunConfig) {
  const trainer = await tinyTrainer(run, { backend });
  const snapshots = new Snapshots();
  const take = (step: number) => trainer.trainStep({ step, learningRate: 0.01, recheck: 'always' });
  const { recheck } = await take(1);
  snapshots.take(1, trainer);
  await take(2);
  const second = { pieces: copyOf(trainer), state: trainerState(trainer) };
  snapshots.restore(1, trainer);
  await take(2);
  const again = { pieces: copyOf(trainer), state: trainerState(trainer) };
  snapshots.restart(trainer);
  return { recheck, second, again, begun: copyOf(trainer) };
}

for (const [name, run] of Object.entries(runs))
  test.serial(`${name}: the bits that a host’s memory gives`, async (t) => {
    const expected = await trained('cpu', run);
    const apart = await trained(APART, run);
    for (const part of ['recheck', 'second', 'again', 'begun'] as const)
      t.deepEqual(apart[part], expected[part], part);
    t.deepEqual(apart.again, apart.second);
    t.true(apart.recheck!.identical);
    t.notDeepEqual(apart.second.pieces, apart.begun);
  });

test.serial('two processes sum and share what lies apart', async (t) => {
  const entry = fileURLToPath(new URL('./routingWorker.ts', import.meta.url));
  const trainer = await tinyTrainer(routedRun(), { backend: 'cpu' });
  for (const step of [1, 2]) await trainer.trainStep({ step, learningRate: 0.01 });
  const hashOf = (pieces: readonly HashedPiece[]) => hashTensors(savedTensors(routedRun()), pieces);
  const server = await startWorkers(t, entry, 2);
  const request = { routing: [], expertParallel: 1, backend: APART };
  const answers = await server.callAll<{ pieces: readonly HashedPiece[] }>('train', request);
  t.deepEqual(hashOf(answers.flatMap(({ pieces }) => pieces)), hashOf(trainer.pieces().map(hashPiece)));
});
