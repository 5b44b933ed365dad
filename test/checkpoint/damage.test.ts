import {
  appendFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  checkpointDirectory,
  hashCheckpoint,
  newestValidCheckpoint,
  openCheckpoint,
  readManifest,
  verifyCheckpoint,
} from '@sluice/checkpoint';
import { BLOCK_ELEMENTS, sha256 } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { holds, SMALL, save } from './helpers.ts';

function flip(path: string, at: number, mask = 1): void {
  const bytes = readFileSync(path);
  bytes[at] = bytes[at]! ^ mask;
  writeFileSync(path, bytes);
}

test('a checkpoint that nothing happened to is valid, shallow and deep', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 5);
  t.deepEqual((await verifyCheckpoint(checkpointDirectory(run, 5))).problems, []);
  t.true((await verifyCheckpoint(checkpointDirectory(run, 5), { deep: false })).valid);
});

test('any byte changed, any cut, any extension and any deletion of any file is found, and the checkpoint before is used', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 1);
  await save(run, 2);
  const directory = checkpointDirectory(run, 2);
  const names = readdirSync(directory);
  t.is(names.length, 3);
  const damage = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        how: fc.constant('flip'),
        at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        mask: fc.integer({ min: 1, max: 255 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        how: fc.constant('cut'),
        at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        mask: fc.constant(0),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        how: fc.constantFrom('extend', 'delete'),
        at: fc.constant(0),
        mask: fc.constant(0),
      }),
    },
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), damage, async (name, { how, at, mask }) => {
      const path = join(directory, name);
      const before = readFileSync(path);
      const position = Math.floor(at * before.length);
      if (how === 'flip') flip(path, position, mask);
      else if (how === 'cut') truncateSync(path, position);
      else if (how === 'extend') appendFileSync(path, '\n');
      else rmSync(path);
      const { checkpoint, refused } = await newestValidCheckpoint(run);
      writeFileSync(path, before);
      t.is(checkpoint?.step, 1);
      t.deepEqual(
        refused.map(({ step }) => step),
        [2],
      );
      t.true(refused[0]!.problems.some(({ message }) => message.includes(name) || name === 'manifest.json'));
    }),
    { numRuns: 120 },
  );
  t.is((await newestValidCheckpoint(run)).checkpoint?.step, 2);
});

test('no byte of a manifest or of a header can change unnoticed, even at a first look', async (t) => {
  const run = temporaryDirectory(t);
  const sharding = { world: 1, cuts: [{ blocks: 1, owner: 0 }] };
  await save(run, 1, { tensors: [SMALL[1]!], kinds: ['parameter'], sharding });
  const directory = checkpointDirectory(run, 1);
  const changeEach = async (name: string, length: number, look: () => Promise<unknown>) => {
    const path = join(directory, name);
    const before = readFileSync(path);
    for (let at = 0; at < length; at++) {
      const changed = Buffer.from(before);
      changed[at] = changed[at]! ^ (1 << (at % 8));
      writeFileSync(path, changed);
      await t.throwsAsync(look(), { code: 'SLUICE_E_CHECKPOINT_DAMAGED' }, `byte ${at} of ${name}`);
    }
    writeFileSync(path, before);
  };
  const manifestBytes = readFileSync(join(directory, 'manifest.json')).length;
  await changeEach('manifest.json', manifestBytes, () => readManifest(directory));
  const headerBytes = 8 + Number(readFileSync(join(directory, 'shard-00000.safetensors')).readBigUInt64LE(0));
  await changeEach('shard-00000.safetensors', headerBytes, () => openCheckpoint(directory));
  t.true((await verifyCheckpoint(directory)).valid);
});

test('a damaged block is told by tensor, block and file', async (t) => {
  const run = temporaryDirectory(t);
  const manifest = await save(run, 1);
  const directory = checkpointDirectory(run, 1);
  const [tensor] = SMALL;
  const shard = manifest.shards.find(({ pieces }) =>
    pieces.some((p) => p.begin === 2 * BLOCK_ELEMENTS && p.kind === 'secondMoment'),
  )!;
  const piece = shard.pieces.find((p) => p.begin === 2 * BLOCK_ELEMENTS && p.kind === 'secondMoment')!;
  flip(join(directory, shard.file), piece.offset + 4 * 10);
  const { valid, problems } = await verifyCheckpoint(directory);
  t.false(valid);
  t.deepEqual(problems, [
    {
      kind: 'block-damaged',
      file: shard.file,
      tensor: `optimizer.second_moment.${tensor!.name}`,
      block: 2,
      message: `the hash of block 2 (elements 8192 to 12287) of optimizer.second_moment.${tensor!.name} in ${shard.file} does not match`,
    },
  ]);
  t.true((await verifyCheckpoint(directory, { deep: false })).valid);
  await t.throwsAsync(openCheckpoint(directory, { verify: true }), { code: 'SLUICE_E_CHECKPOINT_DAMAGED' });
  t.false((await hashCheckpoint(directory)).matchesManifest);

  const reader = await openCheckpoint(directory);
  const name = tensor!.name;
  const undamaged = new Float32Array(2 * BLOCK_ELEMENTS);
  await reader.readRange('secondMoment', name, 0, undamaged.length, undamaged);
  for (const [begin, end] of [
    [0, 3 * BLOCK_ELEMENTS],
    [2 * BLOCK_ELEMENTS, 3 * BLOCK_ELEMENTS],
    [8200, 8300],
  ] as const) {
    const read = reader.readRange('secondMoment', name, begin, end, new Float32Array(end - begin));
    await t.throwsAsync(read, {
      code: 'SLUICE_E_CHECKPOINT_DAMAGED',
      message: /block 2 of optimizer\.second_moment/,
    });
  }
  await reader.close();
  const trusting = await openCheckpoint(directory, { verifyReads: false });
  await t.notThrowsAsync(
    trusting.readRange('secondMoment', name, 0, 3 * BLOCK_ELEMENTS, new Float32Array(3 * BLOCK_ELEMENTS)),
  );
  await trusting.close();
});

test('several damaged blocks of a tensor are told in one line, and missing files by name', async (t) => {
  const run = temporaryDirectory(t);
  const manifest = await save(run, 1, { sharding: { world: 1, cuts: [{ blocks: 9, owner: 0 }] } });
  const directory = checkpointDirectory(run, 1);
  const [piece] = manifest.shards[0]!.pieces;
  for (let block = 0; block < 3; block++)
    flip(join(directory, 'shard-00000.safetensors'), piece!.offset + 16384 * block);
  const { problems } = await verifyCheckpoint(directory);
  t.is(problems.length, 1);
  t.regex(problems[0]!.message, /block 0 .* and 2 more of its blocks/);
  rmSync(join(directory, 'shard-00000.safetensors'));
  const missing = (await verifyCheckpoint(directory)).problems;
  t.deepEqual(
    missing.map(({ kind, message }) => [kind, message]),
    [['file-missing', 'shard-00000.safetensors is missing']],
  );
  await t.throwsAsync(openCheckpoint(directory), {
    code: 'SLUICE_E_CHECKPOINT_DAMAGED',
    message: /is missing/,
  });
});

test('a manifest of a version to come, a foreign one and none at all each have their error', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 1);
  const directory = checkpointDirectory(run, 1);
  const path = join(directory, 'manifest.json');
  const text = readFileSync(path, 'utf8');
  const body = text.slice(text.indexOf('\n', 3) + 1);
  const rewrite = (changed: string) => writeFileSync(path, `{\n "sha256": "${sha256(changed)}",\n${changed}`);

  rewrite(body.replace('"version": 1', '"version": 5'));
  const { problems } = await verifyCheckpoint(directory);
  t.is(problems[0]!.kind, 'version-unknown');
  t.regex(problems[0]!.message, /version 5; this program reads versions 1 to 4/);
  await t.throwsAsync(readManifest(directory), { code: 'SLUICE_E_CHECKPOINT_VERSION' });
  writeFileSync(path, '{"format": "sluice-checkpoint", "version": 9, "framed": "otherwise"}');
  await t.throwsAsync(openCheckpoint(directory), { code: 'SLUICE_E_CHECKPOINT_VERSION' });

  for (const [from, to] of [
    ['"kinds": [', '"kind": ['],
    ['"file": "shard-00000', '"file": "../shard-00000'],
    ['"begin": 0', '"begin": 4096'],
    ['"offset": ', '"offset": 1'],
    ['"tensor": "model.norm.weight"', '"tensor": "model.other.weight"'],
  ] as const) {
    t.true(body.includes(from), from);
    rewrite(body.replace(from, to));
    await t.throwsAsync(readManifest(directory), { code: 'SLUICE_E_CHECKPOINT_DAMAGED' }, from);
  }
  const hash = /"weights": "(.)/.exec(body)!;
  rewrite(body.replace(hash[0], `"weights": "${hash[1] === '0' ? '1' : '0'}`));
  t.is((await verifyCheckpoint(directory)).problems[0]!.kind, 'hash-mismatch');

  writeFileSync(path, '{"model_type": "qwen3"}');
  await t.throwsAsync(openCheckpoint(directory), { code: 'SLUICE_E_CHECKPOINT_DAMAGED' });
  rmSync(path);
  await t.throwsAsync(openCheckpoint(directory), { code: 'SLUICE_E_CHECKPOINT_INCOMPLETE' });
  await t.throwsAsync(openCheckpoint(join(run, 'no')), { code: 'SLUICE_E_CHECKPOINT_INCOMPLETE' });
});

test('a checkpoint under the name of another step is refused', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 1);
  await save(run, 2);
  renameSync(checkpointDirectory(run, 2), checkpointDirectory(run, 9));
  const { checkpoint, refused } = await newestValidCheckpoint(run);
  t.is(checkpoint?.step, 1);
  t.regex(refused[0]!.problems[0]!.message, /manifest is of step 2, its directory of step 9/);
  t.is(basename(dirname(refused[0]!.directory)), 'checkpoints');
});

test('a moved or copied checkpoint is as good as before', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 1);
  const elsewhere = join(temporaryDirectory(t), 'kept');
  renameSync(checkpointDirectory(run, 1), elsewhere);
  const reader = await openCheckpoint(elsewhere, { verify: true });
  t.true(await holds(reader, SMALL, 1));
  await reader.close();
});
