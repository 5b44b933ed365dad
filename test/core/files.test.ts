import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileOperations, fileError, makeDirectories, nodeFiles, writeFileAtomic } from '@sluice/core';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** The file system, failing at its `n`-th operation and, as after a crash, at all that follow. */
function crashingAt(n: number, log: string[] = []): FileOperations {
  const step = (name: string) => {
    log.push(name);
    if (log.length > n) throw Object.assign(new Error('crash'), { code: 'CRASH' });
  };
  return {
    create: async (path) => {
      step('create');
      const file = await nodeFiles.create(path);
      return {
        write: async (bytes, position) => {
          step('write');
          await file.write(bytes, position);
        },
        sync: async () => {
          step('sync');
          await file.sync();
        },
        close: async () => {
          await file.close();
        },
      };
    },
    rename: async (from, to) => {
      step('rename');
      await nodeFiles.rename(from, to);
    },
    unlink: async (path) => {
      step('unlink');
      await nodeFiles.unlink(path);
    },
    makeDirectory: nodeFiles.makeDirectory,
    removeDirectory: nodeFiles.removeDirectory,
    syncDirectory: async (path) => {
      step('syncDirectory');
      await nodeFiles.syncDirectory(path);
    },
  };
}

test('a crash at any operation leaves either the old content or the new', async (t) => {
  for (let n = 0; n <= 5; n++) {
    const path = join(temporaryDirectory(t), 'a.json');
    writeFileSync(path, 'old');
    const log: string[] = [];
    const write = writeFileAtomic(path, 'new', crashingAt(n, log));
    if (n < 5) await t.throwsAsync(write, { message: 'crash' });
    else await write;
    t.is(readFileSync(path, 'utf8'), n < 4 ? 'old' : 'new', `crash at operation ${n}`);
    if (n === 5) t.deepEqual(log, ['create', 'write', 'sync', 'rename', 'syncDirectory']);
  }
});

test('a full disk is a coded error that leaves the old content and nothing else', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.json');
  writeFileSync(path, 'old');
  const full: FileOperations = {
    ...nodeFiles,
    create: async (temporary) => {
      const file = await nodeFiles.create(temporary);
      const handle = await open('/dev/full', 'w');
      return {
        ...file,
        write: async (bytes) => void (await handle.write(bytes)),
        sync: () => file.sync(),
        close: async () => {
          await handle.close();
          await file.close();
        },
      };
    },
  };
  await t.throwsAsync(writeFileAtomic(path, 'new', full), { code: 'SLUICE_E_DISK_FULL' });
  t.is(readFileSync(path, 'utf8'), 'old');
  t.deepEqual(readdirSync(directory), ['a.json']);
});

test('directories are made with those above them, and again without effect', (t) => {
  const path = join(temporaryDirectory(t), 'a', 'b', 'c');
  makeDirectories(path);
  makeDirectories(path);
  t.deepEqual(readdirSync(path), []);
});

test('a directory that cannot be made is a coded error, a file in the way included', (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  for (const path of [file, join(file, 'a', 'b'), '/proc/nonexistent/a', join(directory, 'x'.repeat(300))])
    t.throws(() => makeDirectories(path), { code: 'SLUICE_E_FILE_UNWRITABLE' }, path);
});

test('an unwritable place and a missing directory are coded errors', async (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'file'), '');
  await t.throwsAsync(writeFileAtomic(join(directory, 'file', 'a'), 'x'), {
    code: 'SLUICE_E_FILE_UNWRITABLE',
  });
  await t.throwsAsync(writeFileAtomic(join(directory, 'no', 'a'), 'x'), { code: 'SLUICE_E_FILE_MISSING' });
  await t.throwsAsync(writeFileAtomic(directory, 'x'), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  const nowhere = fileError(join(directory, 'link'), Object.assign(new Error(), { code: 'ENOENT' }));
  t.like(nowhere, { code: 'SLUICE_E_FILE_MISSING', message: `Cannot write ${directory}/link (ENOENT).` });
  // The superuser may write anywhere, so only others can be refused by permissions.
  if (process.getuid?.() !== 0) {
    chmodSync(directory, 0o500);
    await t.throwsAsync(writeFileAtomic(join(directory, 'a'), 'x'), { code: 'SLUICE_E_FILE_UNWRITABLE' });
    chmodSync(directory, 0o700);
  }
});

if (process.platform !== 'win32') {
  test('bytes that a file cannot take whole are not taken at all', (t) => {
    const path = join(temporaryDirectory(t), 'log');
    const line = (letter: string) => `${letter.repeat(299)}\n`;
    // Of the line that crosses a process's limit for the size of files, the system takes what fits.
    const program = `
      import { appendWhole } from '@sluice/core';
      import { openSync } from 'node:fs';
      const file = openSync(${JSON.stringify(path)}, 'a');
      const codes = [];
      for (const letter of 'abcd') {
        try {
          appendWhole(file, 'log', Buffer.from(letter.repeat(299) + '\\n'));
        } catch (error) {
          codes.push(error.code);
        }
      }
      console.log(codes.join());`;
    const codes = execFileSync(
      'sh',
      ['-c', 'ulimit -f 1; exec "$0" --input-type=module -e "$1"', process.execPath, program],
      { encoding: 'utf8', cwd: fileURLToPath(new URL('.', import.meta.url)) },
    );
    const content = readFileSync(path, 'utf8');
    const fitting = Math.floor(content.length / 300);
    t.is(content, [...'abcd'].slice(0, fitting).map(line).join(''));
    t.is(
      codes.trim(),
      Array(4 - fitting)
        .fill('SLUICE_E_FILE_UNWRITABLE')
        .join(),
    );
    t.true(fitting < 4);
  });
}
