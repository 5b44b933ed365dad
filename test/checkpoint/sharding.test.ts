import {
  beginCheckpoint,
  checkpointDirectory,
  commitCheckpoint,
  compareTensors,
  hashCheckpoint,
  hashPiece,
  hashTensors,
  numElements,
  openCheckpoint,
  type Piece,
  type TensorKind,
  writeShard,
} from '@sluice/checkpoint';
import { BLOCK_ELEMENTS } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { holds, SMALL, save, shard, shardings, TWO_WORKERS, tensorLists, valuesOf } from './helpers.ts';

const RUNS = { numRuns: 30 };

test('what any workers saved, any other workers load, bit for bit', async (t) => {
  await fc.assert(
    fc.asyncProperty(tensorLists, shardings, shardings, async (tensors, saving, loading) => {
      const run = temporaryDirectory(t);
      await save(run, 1, { tensors, sharding: saving });
      const reader = await openCheckpoint(checkpointDirectory(run, 1));
      for (const piece of shard(tensors, loading, 1).flat()) {
        const target = new Float32Array(new SharedArrayBuffer(4 * piece.values.length));
        await reader.readRange(piece.kind, piece.tensor.name, piece.begin, piece.end, target);
        t.deepEqual(Buffer.from(new Float32Array(target).buffer), Buffer.from(piece.values.slice().buffer));
      }
      await reader.close();
    }),
    RUNS,
  );
});

test('hashes are the same for any sharding, on disk, in the manifest and in memory', async (t) => {
  await fc.assert(
    fc.asyncProperty(tensorLists, shardings, shardings, async (tensors, one, other) => {
      const run = temporaryDirectory(t);
      const a = await save(run, 1, { tensors, sharding: one });
      const b = await save(run, 2, { tensors, sharding: other, seed: 1 });
      t.deepEqual(a.hashes, b.hashes);
      const { matchesManifest, ...onDisk } = await hashCheckpoint(checkpointDirectory(run, 2));
      t.true(matchesManifest);
      t.deepEqual(onDisk, a.hashes);
      t.deepEqual(hashTensors(tensors, shard(tensors, one, 1).flat().map(hashPiece)), a.hashes as never);
    }),
    RUNS,
  );
});

test('a range that begins and ends anywhere is assembled from the pieces that it overlaps', async (t) => {
  const tensor = { name: 'w', shape: [5 * BLOCK_ELEMENTS + 17] };
  const run = temporaryDirectory(t);
  await save(run, 1, { tensors: [tensor], sharding: TWO_WORKERS, kinds: ['parameter'] });
  const all = valuesOf(1, 'parameter', tensor);
  for (const verifyReads of [true, false]) {
    const reader = await openCheckpoint(checkpointDirectory(run, 1), { verifyReads });
    await fc.assert(
      fc.asyncProperty(fc.nat(all.length), fc.nat(all.length), async (x, y) => {
        const [begin, end] = x < y ? [x, y] : [y, x];
        const target = new Float32Array(end - begin);
        await reader.readRange('parameter', 'w', begin, end, target);
        return Buffer.from(target.buffer).equals(Buffer.from(all.slice(begin, end).buffer));
      }),
      {
        numRuns: 60,
        examples: [
          [0, all.length],
          [0, 1],
          [all.length - 1, all.length],
          [BLOCK_ELEMENTS, 2 * BLOCK_ELEMENTS],
        ],
      },
    );
    await reader.close();
  }
  t.pass();
});

test('the hash of the whole tells content, names, shapes and kinds apart', (t) => {
  const hash = (change: (pieces: Piece[]) => Piece[]) => {
    const pieces = change(shard(SMALL, TWO_WORKERS, 1).flat());
    const tensors = [...new Map(pieces.map(({ tensor }) => [tensor.name, tensor])).values()];
    return hashTensors(tensors, pieces.map(hashPiece));
  };
  const plain = hash((pieces) => pieces);
  t.deepEqual(
    hash((pieces) => pieces.reverse()),
    plain,
  );
  const bit = hash((pieces) => {
    const bits = new Uint32Array(pieces[0]!.values.buffer, pieces[0]!.values.byteOffset, 1);
    bits[0] = bits[0]! ^ 1;
    return pieces;
  });
  t.not(bit.weights, plain.weights);
  t.is(bit.optimizer, plain.optimizer);
  const rename = (tensor: Piece['tensor']) =>
    tensor.shape.length === 1 ? { ...tensor, name: 'other' } : tensor;
  t.not(hash((pieces) => pieces.map((p) => ({ ...p, tensor: rename(p.tensor) }))).weights, plain.weights);
  const reshape = (tensor: Piece['tensor']) => ({ ...tensor, shape: [numElements(tensor.shape)] });
  t.not(hash((pieces) => pieces.map((p) => ({ ...p, tensor: reshape(p.tensor) }))).weights, plain.weights);
  const swap: Partial<Record<TensorKind, TensorKind>> = {
    firstMoment: 'secondMoment',
    secondMoment: 'firstMoment',
  };
  const swapped = hash((pieces) => pieces.map((p) => ({ ...p, kind: swap[p.kind] ?? p.kind })));
  t.is(swapped.weights, plain.weights);
  t.not(swapped.optimizer, plain.optimizer);
});

test('tensors may have kinds of their own, which are covered, hashed and read like the others', async (t) => {
  const run = temporaryDirectory(t);
  const [first, ...others] = SMALL;
  const own = { ...first!, kinds: ['parameter', 'momentum'] as const };
  const plain = await save(run, 1);
  const mixed = await save(run, 2, { tensors: [own, ...others], seed: 1 });
  t.is(plain.version, 1);
  t.is(mixed.version, 2);
  t.is(mixed.hashes.weights, plain.hashes.weights);
  t.not(mixed.hashes.optimizer, plain.hashes.optimizer);
  const stored = Object.keys(mixed.hashes.tensors).filter((name) => name.endsWith(first!.name));
  t.deepEqual(stored, [first!.name, `optimizer.momentum.${first!.name}`]);
  const reader = await openCheckpoint(checkpointDirectory(run, 2), { verify: true });
  t.true(await holds(reader, others, 1));
  t.true(await holds(reader, [own], 1, own.kinds));
  await t.throwsAsync(reader.readRange('firstMoment', own.name, 0, 1, new Float32Array(1)), {
    code: 'SLUICE_E_CHECKPOINT_MISMATCH',
  });
  await reader.close();
  const { matchesManifest } = await hashCheckpoint(checkpointDirectory(run, 2));
  t.true(matchesManifest);
  const pieces = shard([first!], TWO_WORKERS, 1).flat().map(hashPiece);
  t.throws(() => hashTensors([own], pieces), { message: /momentum.* are in no piece/ });
});

test('weights without moments are a checkpoint too', async (t) => {
  const run = temporaryDirectory(t);
  const whole = await save(run, 1);
  const weights = await save(run, 2, { kinds: ['parameter'], seed: 1 });
  t.is(weights.hashes.weights, whole.hashes.weights);
  t.is(weights.hashes.optimizer, null);
  const reader = await openCheckpoint(checkpointDirectory(run, 2));
  t.true(await holds(reader, SMALL, 1, ['parameter']));
  await t.throwsAsync(reader.readRange('firstMoment', SMALL[1]!.name, 0, 5, new Float32Array(5)), {
    code: 'SLUICE_E_CHECKPOINT_MISMATCH',
  });
  await reader.close();
});

test('many workers write into one directory at the same time', async (t) => {
  const run = temporaryDirectory(t);
  const sharding = { world: 8, cuts: Array.from({ length: 8 }, (_, owner) => ({ blocks: 1, owner })) };
  const directory = await beginCheckpoint(run, 3);
  const shards = await Promise.all(
    shard(SMALL, sharding, 3).map((pieces, rank) => writeShard(directory, rank, pieces)),
  );
  const common = { config: {}, configHash: '', state: {}, probe: {} };
  await commitCheckpoint({ directory, step: 3, tensors: SMALL, shards, ...common });
  const reader = await openCheckpoint(directory, { verify: true });
  t.true(await holds(reader, SMALL, 3));
  await reader.close();
});

test('pieces that leave a gap, overlap, or belong to nothing are a broken invariant', async (t) => {
  const run = temporaryDirectory(t);
  const [first, second] = shard(SMALL, TWO_WORKERS, 1) as [Piece[], Piece[]];
  const commit = async (...workers: Piece[][]) => {
    const directory = await beginCheckpoint(run, 1);
    const shards = [];
    for (const [rank, pieces] of workers.entries()) shards.push(await writeShard(directory, rank, pieces));
    const common = { config: {}, configHash: '', state: {}, probe: {} };
    return commitCheckpoint({ directory, step: 1, tensors: SMALL, shards, ...common });
  };
  await t.throwsAsync(commit(first), { message: /are in no piece/ });
  await t.throwsAsync(commit(first, second.slice(1)), { message: /are in no piece/ });
  await t.throwsAsync(commit(first, second, [first[0]!]), { message: /are in two pieces/ });
  const stranger = {
    ...second[0]!,
    tensor: { name: 'stranger', shape: [5] },
    begin: 0,
    end: 5,
    values: new Float32Array(5),
  };
  await t.throwsAsync(commit(first, second, [stranger]), {
    message: /stranger, which is not among the tensors/,
  });
  const ragged = { ...first[0]!, begin: 0, end: 100, values: new Float32Array(100) };
  await t.throwsAsync(commit([ragged]), { message: /no block-aligned range/ });
  await commit(first, second);
  t.pass();
});

test('every difference from another model’s tensors is found, and what is not there cannot be read', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 1);
  const reader = await openCheckpoint(checkpointDirectory(run, 1));
  t.deepEqual(compareTensors(reader.manifest.tensors, SMALL), { missing: [], surplus: [], reshaped: [] });
  const wanted = [
    { name: 'model.embed.weight', shape: [BLOCK_ELEMENTS, 3] },
    { name: 'lm_head.weight', shape: [1] },
  ];
  const { missing, surplus, reshaped } = compareTensors(reader.manifest.tensors, wanted);
  t.deepEqual(missing, [wanted[1]]);
  t.deepEqual(
    surplus.map(({ name }) => name),
    ['model.norm.weight'],
  );
  t.deepEqual(reshaped, [{ ...wanted[0]!, shapeThere: [3, BLOCK_ELEMENTS] }]);
  await t.throwsAsync(reader.readRange('parameter', 'no', 0, 1, new Float32Array(1)), {
    code: 'SLUICE_E_CHECKPOINT_MISMATCH',
  });
  await t.throwsAsync(reader.readRange('parameter', 'model.norm.weight', 0, 6, new Float32Array(6)), {
    code: 'SLUICE_E_CHECKPOINT_MISMATCH',
  });
  await reader.close();
});

test('state comes back as it was, and what JSON cannot hold is never saved', async (t) => {
  const run = temporaryDirectory(t);
  const manifest = await save(run, 7);
  t.deepEqual(manifest.state, { order: { position: 56 } });
  t.deepEqual(manifest.probe, { loss: 2.5 });
  t.deepEqual(manifest.config, { seed: 7, model: { hiddenSize: 4 } });
  t.is(manifest.step, 7);
  const directory = await beginCheckpoint(run, 8);
  const shards = [await writeShard(directory, 0, shard(SMALL, { ...TWO_WORKERS, world: 1 }, 1).flat())];
  const common = { directory, step: 8, tensors: SMALL, shards, config: {}, configHash: '', probe: {} };
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, new Float32Array(1), new Map(), 5n]) {
    await t.throwsAsync(commitCheckpoint({ ...common, state: { window: [1, bad] } }), {
      message: /state\.window\.1/,
    });
  }
});
