import { closeSync, ftruncateSync, openSync, readSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mapFile } from '@sluice/engine/fileMapping';
import test from 'ava';

test('what is written to a mapped file is seen through the file and through other mappings', (t) => {
  const path = join(tmpdir(), `sluice-mapping-${process.pid}`);
  const file = openSync(path, 'w+');
  unlinkSync(path);
  ftruncateSync(file, 8192);
  const one = mapFile(file, 8192, true);
  const other = mapFile(file, 4096, false);
  if (one === undefined || other === undefined) {
    t.pass('there is no C++ core on this machine');
    return;
  }
  t.is(one.byteLength, 8192);
  t.is(other.byteLength, 4096);
  new Uint8Array(one).set([1, 2, 3], 4000);
  t.deepEqual([...new Uint8Array(other, 4000, 3)], [1, 2, 3]);
  const bytes = new Uint8Array(3);
  readSync(file, bytes, 0, 3, 4000);
  t.deepEqual([...bytes], [1, 2, 3]);
  closeSync(file);
  t.deepEqual([...new Uint8Array(other, 4000, 3)], [1, 2, 3], 'the mapping outlives the descriptor');
});

test('a descriptor that cannot be mapped gives nothing', (t) => {
  t.is(mapFile(9999, 4096, false), undefined);
});
