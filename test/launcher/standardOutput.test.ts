import { spawnSync } from 'node:child_process';
import { existsSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { FileOutput } from '../../launcher/src/cli/standardOutput.ts';

/** A file with room for so many bytes. */
function smallDisk() {
  const disk = { room: 0, content: '' };
  const output = new FileOutput(1, (bytes) => {
    if (disk.room === 0) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    const count = Math.min(disk.room, bytes.length);
    disk.room -= count;
    disk.content += Buffer.from(bytes.subarray(0, count)).toString();
    return count;
  });
  return { disk, output };
}

test('lines that could not be written are counted, and told where writing works again', (t) => {
  const { disk, output } = smallDisk();
  disk.room = 6;
  output.write('first\n');
  output.write('second\nthird\n');
  output.write('fourth\n');
  t.is(output.lostLines, 3);
  t.is(output.reason, 'ENOSPC');
  disk.room = 1000;
  output.write('fifth\n');
  t.is(disk.content, 'first\n(3 lines could not be written here: ENOSPC)\nfifth\n');
  t.is(output.lostLines, 0);
});

test('a line that was cut off is ended before the next', (t) => {
  const { disk, output } = smallDisk();
  disk.room = 3;
  output.write('first\n');
  disk.room = 1000;
  t.true(output.ownUp());
  t.is(disk.content, 'fir\n(1 line could not be written here: ENOSPC)\n');
});

const bin = fileURLToPath(new URL('../../launcher/bin/sluice.js', import.meta.url));

if (existsSync('/dev/full')) {
  test('a result that nobody gets is no success; a log that nobody gets is none of its business', (t) => {
    const full = openSync('/dev/full', 'w');
    const words = [bin, 'count', 'configs/quickstart.yaml'];
    const lost = spawnSync(process.execPath, words, { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' });
    t.is(lost.status, 1);
    t.regex(lost.stderr, /^error: the result could not be written to standard output \(ENOSPC\)\n$/);
    const unheard = spawnSync(process.execPath, words, { stdio: ['ignore', 'pipe', full], encoding: 'utf8' });
    t.is(unheard.status, 0);
    t.regex(unheard.stdout, /parameters/);
  });
}
