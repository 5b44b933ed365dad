/** What only shows in a checkpoint of some size: several threads verify it, and a part is loaded in no more memory than it takes. */

import { execFile } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkpointDirectory, readManifest, verifyCheckpoint } from '@sluice/checkpoint';
import { BLOCK_ELEMENTS } from '@sluice/core';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { save } from './helpers.ts';

const MIB = 2 ** 20;
const ELEMENTS = 20 * MIB;
const TENSORS = ['a', 'b'].map((name) => ({ name, shape: [ELEMENTS / 2] }));

/**
 * Loads the second half of each tensor, and prints how much more memory the process has come to use than that. On Linux it is the
 * peak of the program itself: resourceUsage() counts in what started it.
 */
const LOAD = `
  import { existsSync, readFileSync } from 'node:fs';
  import { openCheckpoint } from '@sluice/checkpoint';
  const peak = () =>
    existsSync('/proc/self/status')
      ? 1024 * Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
      : process.memoryUsage().rss;
  const reader = await openCheckpoint(process.argv[1]);
  const before = peak();
  let own = 0;
  const parts = [];
  for (const { name, shape: [size] } of reader.manifest.tensors) {
    for (const kind of reader.manifest.kinds) {
      const part = new Float32Array(new SharedArrayBuffer(2 * size));
      own += part.byteLength;
      parts.push(part);
      await reader.readRange(kind, name, size / 2, size, part);
    }
  }
  console.log(JSON.stringify({ own, more: peak() - before - own }));
`;

test.serial(
  'of a large checkpoint every part is verified, and a part of it is loaded within its own size and a bounded buffer',
  async (t) => {
    const run = temporaryDirectory(t);
    // One worker saved it; another number loads it.
    const sharding = { world: 1, cuts: [{ blocks: ELEMENTS / BLOCK_ELEMENTS, owner: 0 }] };
    await save(run, 1, { tensors: TENSORS, kinds: ['parameter', 'firstMoment'], sharding });
    const directory = checkpointDirectory(run, 1);
    t.deepEqual((await verifyCheckpoint(directory)).problems, []);

    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', LOAD, directory],
      { cwd: process.cwd() },
    );
    const { own, more } = JSON.parse(stdout);
    t.is(own, 80 * MIB);
    t.true(Math.abs(more) < 24 * MIB, `${Math.round(more / MIB)} MiB besides its own`);

    const [shard] = (await readManifest(directory)).shards;
    const damaged = [shard!.pieces[1]!, shard!.pieces[3]!];
    const file = openSync(join(directory, shard!.file), 'r+');
    for (const { offset } of damaged) writeSync(file, 'damage', offset + 5 * 4 * BLOCK_ELEMENTS);
    closeSync(file);
    const { problems } = await verifyCheckpoint(directory);
    t.deepEqual(
      problems.map(({ kind, tensor, block }) => ({ kind, tensor, block })),
      ['b', 'optimizer.first_moment.b'].map((tensor) => ({ kind: 'block-damaged', tensor, block: 5 })),
    );
  },
);
