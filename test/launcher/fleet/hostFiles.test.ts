import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { HostFiles } from '../../../launcher/src/fleet/hostFiles.ts';
import {
  decodeFromCoordinator,
  encodeFromCoordinator,
  PIECE_BYTES,
} from '../../../launcher/src/fleet/protocol.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { filesOf } from './support/filesOf.ts';

/** More than a few pieces, and no whole number of them. */
const content = Buffer.from(Uint32Array.from({ length: 600_001 }, (_, i) => (i * 2654435761) >>> 0).buffer);

test('a file of many pieces is written to a host and read from it as it was, and one of its name goes', async (t) => {
  const directory = temporaryDirectory(t);
  const files = filesOf(directory);
  mkdirSync(join(directory, 'step-3'));
  writeFileSync(join(directory, 'step-3/a.bin'), Buffer.alloc(2 * content.length));
  await files.write('memory', 'step-3/a.bin', content);
  t.true(readFileSync(join(directory, 'step-3/a.bin')).equals(content));
  const list = await files.list('memory');
  t.deepEqual(list, [{ path: 'step-3/a.bin', size: content.length }]);
  t.true((await files.read('memory', list[0]!)).equals(content));
});

test('what the host’s disk says is what the coordinator hears', async (t) => {
  const directory = temporaryDirectory(t);
  const files = filesOf(join(directory, 'nowhere'));
  t.deepEqual(await files.list('memory'), []);
  await t.throwsAsync(files.read('memory', { path: 'a', size: 1 }), { message: /ENOENT/ });
  writeFileSync(join(directory, 'nowhere'), 'no folder');
  const error = { code: 'SLUICE_E_FILE_UNWRITABLE', message: /nowhere/ };
  await t.throwsAsync(files.write('memory', 'a', content), error);
});

test('whoever waits for files of a host hears that it is lost, and whoever asks later too', async (t) => {
  const files = new HostFiles('h3', () => {});
  const waiting = files.list('memory');
  files.lose('it fell silent');
  for (const work of [waiting, files.list('memory')]) {
    await t.throwsAsync(work, { code: 'SLUICE_E_WORKER_LOST', message: /h3 .*it fell silent/ });
  }
});

test('a file of any size is sent from a disk and fetched to one; what is removed is gone with all that is in it', async (t) => {
  const directory = temporaryDirectory(t);
  const files = filesOf(join(directory, 'host'));
  writeFileSync(join(directory, 'here'), content);
  let pieces = 0;
  await files.send(join(directory, 'here'), 'collected', 'save/a', () => pieces++);
  t.is(pieces, Math.ceil(content.length / PIECE_BYTES));
  await files.fetch('collected', { path: 'save/a', size: content.length }, join(directory, 'back'));
  t.true(readFileSync(join(directory, 'back')).equals(content));
  await files.remove('collected', 'save');
  t.deepEqual(await files.list('collected'), []);
  await t.throwsAsync(
    files.send(join(directory, 'here'), 'collected', 'save/a', () => {
      throw new Error('enough');
    }),
    { message: 'enough' },
  );
});

test('no path leads out of its place', (t) => {
  const directory = temporaryDirectory(t);
  for (const path of ['../a', '/etc/passwd', 'a/../../b', '..', 'a//b', '', '.', 'a/.', 'a/b/c/d/e']) {
    const frame = encodeFromCoordinator('files', { act: 'create', ask: 1, place: 'memory', path });
    t.is(decodeFromCoordinator(frame), undefined, path);
  }
  t.false(existsSync(join(directory, '..', 'a')));
});
