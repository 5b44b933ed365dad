import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ElementRange } from '@sluice/collectives';
import test from 'ava';
import { moveFiles } from '../../packages/train/src/moveFiles.ts';
import { soloWorkers, type Workers } from '../../packages/train/src/workers.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const PART_BYTES = 10;
const TRANSFERS = [
  { from: 0, to: 1, file: 'first', size: 25 },
  { from: 0, to: 1, file: 'second', size: 10 },
  { from: 1, to: 0, file: 'theirs', size: 17 },
];

/** The first of two workers; the other sends `theirs`, a part in each round, and keeps what it gets. */
function firstOfTwo(theirs: Uint8Array) {
  const received: Uint8Array[] = [];
  let sent = 0;
  const world = {
    allToAll(
      send: Uint8Array,
      [, out]: readonly ElementRange[],
      receive: Uint8Array,
      [, back]: readonly ElementRange[],
    ) {
      received.push(send.slice(out!.start, out!.end));
      const { start, end } = back!;
      receive.set(theirs.subarray(sent, sent + end - start), start);
      sent += end - start;
      return { wait() {} };
    },
  };
  const workers = { ...soloWorkers(), size: 2, world: world as unknown as Workers['world'] };
  return { workers, received };
}

test('files longer than what is sent at once arrive whole, part by part', async (t) => {
  const directory = temporaryDirectory(t);
  const [first, second, theirs] = [25, 10, 17].map((length) => randomBytes(length));
  writeFileSync(join(directory, 'first'), first!);
  writeFileSync(join(directory, 'second'), second!);
  writeFileSync(join(directory, 'theirs'), 'of an earlier time');
  const { workers, received } = firstOfTwo(theirs!);
  await moveFiles(workers, directory, TRANSFERS, PART_BYTES);
  t.deepEqual(
    received.map(({ length }) => length),
    [10, 10, 5, 10],
  );
  t.deepEqual(Buffer.concat(received), Buffer.concat([first!, second!]));
  t.deepEqual(readFileSync(join(directory, 'theirs')), theirs);
});

test('a worker that cannot read what it is to send keeps no other waiting, and says so in the end', async (t) => {
  const { workers, received } = firstOfTwo(randomBytes(17));
  const directory = temporaryDirectory(t);
  await t.throwsAsync(moveFiles(workers, directory, TRANSFERS, PART_BYTES), {
    code: 'SLUICE_E_FILE_MISSING',
    message: /first/,
  });
  t.is(received.length, 4);
});
