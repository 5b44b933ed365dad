import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { addressOf, getsHugePages, hugeBytesOf, letRead, readProcess } from '@sluice/engine/processMemory';
import test from 'ava';

const MODULE = fileURLToPath(new URL('../../packages/engine/dist/processMemory.js', import.meta.url));

/** Says where a hundred thousand bytes lie, the rest of their number each, and waits. */
const OTHER = `
  const { addressOf } = await import(${JSON.stringify(MODULE)});
  const bytes = new Uint8Array(new SharedArrayBuffer(100_000)).fill(0);
  for (let i = 0; i < bytes.length; i++) bytes[i] = i % 253;
  process.send(addressOf(bytes));
  process.on('message', () => bytes.length);
`;

const isPossible = process.platform === 'linux' && addressOf(new Uint8Array(1)) !== undefined;

(isPossible ? test : test.skip)(
  'what another process holds is read where it lies, until it ends',
  async (t) => {
    const other = spawn(process.execPath, ['--input-type=module', '-e', OTHER], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    t.teardown(() => other.kill('SIGKILL'));
    const [address] = (await once(other, 'message')) as [number];
    const read = new Uint8Array(50_000);
    t.true(readProcess(other.pid!, address + 777, read));
    t.true(read.every((byte, i) => byte === (i + 777) % 253));
    t.false(readProcess(other.pid!, 16, read), 'nothing lies there');
    other.kill('SIGKILL');
    await once(other, 'exit');
    t.false(readProcess(other.pid!, address, read));
  },
);

test('a process reads itself, and who may read it is said without an error', (t) => {
  const bytes = Uint8Array.of(1, 2, 3);
  const address = addressOf(bytes);
  t.notThrows(() => letRead(process.ppid));
  const read = new Uint8Array(3);
  t.is(address !== undefined && readProcess(process.pid, address, read), address !== undefined);
  t.deepEqual([...read], address === undefined ? [0, 0, 0] : [1, 2, 3]);
});

test('bytes in huge pages are those of the mappings in which a range lies', (t) => {
  const mappings = `
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Rss:                8192 kB
AnonHugePages:      6144 kB
ShmemPmdMapped:        0 kB
7f0000800000-7f0000a00000 rw-s 00800000 00:01 5  /memfd:x (deleted)
AnonHugePages:         0 kB
ShmemPmdMapped:     2048 kB
`;
  const [first, second] = [0x7f0000000000, 0x7f0000800000];
  t.is(hugeBytesOf(mappings, first + 4096, 4096), 6 << 20);
  t.is(hugeBytesOf(mappings, second, 4096), 2 << 20);
  t.is(hugeBytesOf(mappings, second - 1, 2), 8 << 20);
  t.is(hugeBytesOf(mappings, second + 0x200000, 4096), 0);
  t.is(hugeBytesOf('', first, 4096), 0);
  t.is(typeof getsHugePages(), 'boolean');
});
