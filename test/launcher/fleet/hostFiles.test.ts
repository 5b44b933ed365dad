import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { HostFiles } from '../../../launcher/src/fleet/hostFiles.ts';
import { decodeFromCoordinator, encodeFromCoordinator } from '../../../launcher/src/fleet/protocol.ts';
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
  const files = filesOf(join(temporaryDirectory(t), 'nowhere'));
  t.deepEqual(await files.list('memory'), []);
  await t.throwsAsync(files.read('memory', { path: 'a', size: 1 }), { message: /ENOENT/ });
  await t.throwsAsync(files.write('memory', 'a', content), { message: /ENOENT/ });
});

test('whoever waits for files of a host hears that it is lost, and whoever asks later too', async (t) => {
  const files = new HostFiles('h3', () => {});
  const waiting = files.list('memory');
  files.lose('it fell silent');
  for (const work of [waiting, files.list('memory')]) {
    await t.throwsAsync(work, { code: 'SLUICE_E_WORKER_LOST', message: /h3 .*it fell silent/ });
  }
});

test('no path leads out of its place', (t) => {
  const directory = temporaryDirectory(t);
  for (const path of ['../a', '/etc/passwd', 'a/../../b', '..', 'a//b', '', '.hidden', 'a/b/c/d/e']) {
    const frame = encodeFromCoordinator('files', { act: 'create', ask: 1, place: 'memory', path });
    t.is(decodeFromCoordinator(frame), undefined, path);
  }
  t.false(existsSync(join(directory, '..', 'a')));
});
