import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { acquireLock, acquireRunLock, lockOwner } from '../../launcher/src/run/lock.ts';
import { ownIdentity, processStart } from '../../launcher/src/run/processIdentity.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const inUse = { code: 'SLUICE_E_RUN_IN_USE' };

test('a lock names this process, and a second taking of it is refused until it is released', (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'lock');
  const lock = acquireLock(path);
  t.like(lockOwner(path), { ...ownIdentity(), alive: true });
  const error = t.throws(() => acquireLock(path), inUse);
  t.regex(error.message, new RegExp(`process ${process.pid} on `));
  lock.release();
  t.deepEqual(readdirSync(directory), []);
  acquireLock(path).release();
});

test('releasing twice does not take the next owner’s lock away', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  const first = acquireLock(path);
  first.release();
  const second = acquireLock(path);
  first.release();
  t.true(existsSync(path));
  second.release();
});

test('the lock of a process that is gone is taken over, and nothing is left beside it', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'lock');
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const started = processStart(child.pid!);
  t.truthy(started);
  writeFileSync(path, JSON.stringify({ pid: child.pid, host: hostname(), started, token: 'theirs' }));
  t.throws(() => acquireLock(path), inUse);
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  const lock = acquireLock(path);
  t.is(JSON.parse(readFileSync(path, 'utf8')).pid, process.pid);
  t.deepEqual(readdirSync(directory), ['lock']);
  lock.release();
});

test('a lock that was copied along with its directory owns nothing there; one that was moved does', (t) => {
  const directory = temporaryDirectory(t);
  const at = (name: string) => join(directory, name, 'lock');
  mkdirSync(join(directory, 'run'));
  const lock = acquireLock(at('run'));
  t.teardown(() => lock.release());
  cpSync(join(directory, 'run'), join(directory, 'copy'), { recursive: true });
  t.is(lockOwner(at('copy')), undefined);
  acquireLock(at('copy')).release();
  symlinkSync(join(directory, 'run'), join(directory, 'link'));
  t.throws(() => acquireLock(at('link')), inUse);
  renameSync(join(directory, 'run'), join(directory, 'moved'));
  t.throws(() => acquireLock(at('moved')), inUse);
  renameSync(join(directory, 'moved'), join(directory, 'run'));
  t.notThrows(() => lock.assertOwned());
});

test('a lock that cannot be put in its place is a coded error, and leaves nothing', (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'lock');
  mkdirSync(path);
  t.throws(() => acquireLock(path), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  t.deepEqual(readdirSync(directory), ['lock']);
});

test('a process with the same number that started at another time is not the owner', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  writeFileSync(path, JSON.stringify({ ...ownIdentity(), started: 'long ago', token: 'theirs' }));
  const lock = acquireLock(path);
  t.is(lockOwner(path)?.started, ownIdentity().started);
  lock.release();
});

test('an owner on another machine counts as alive', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  writeFileSync(path, JSON.stringify({ pid: 1, host: 'elsewhere.example', started: 'x', token: 'theirs' }));
  const error = t.throws(() => acquireLock(path), inUse);
  t.regex(error.message, /elsewhere\.example/);
});

test('a lock file that was torn by a crash is taken over', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  writeFileSync(path, '{"pid": 12');
  const lock = acquireLock(path);
  t.true(lockOwner(path)?.alive);
  lock.release();
});

test('of many processes that find a dead lock at the same time exactly one gets it', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'lock');
  writeFileSync(path, JSON.stringify({ ...ownIdentity(), started: 'long ago', token: 'theirs' }));
  const program = `
    import { acquireLock } from ${JSON.stringify(new URL('../../launcher/dist/run/lock.js', import.meta.url).href)};
    process.stdout.write('ready\\n');
    process.stdin.once('data', () => {
      try { acquireLock(${JSON.stringify(path)}); process.stdout.write('owner\\n'); }
      catch (error) { process.stdout.write(error.code + '\\n'); }
      process.stdin.once('end', () => process.exit());
    });
  `;
  const contenders = Array.from({ length: 4 }, () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    const lines = (count: number) =>
      new Promise<string[]>((resolve) => {
        const look = () => {
          if (output.split('\n').length > count) resolve(output.trim().split('\n'));
        };
        child.stdout.on('data', look);
      });
    return { child, ready: lines(1), answered: lines(2) };
  });
  await Promise.all(contenders.map(({ ready }) => ready));
  for (const { child } of contenders) child.stdin.write('go\n');
  const answers = (await Promise.all(contenders.map(({ answered }) => answered))).map((lines) => lines[1]);
  for (const { child } of contenders) child.stdin.end();
  t.is(answers.filter((answer) => answer === 'owner').length, 1, answers.join(' '));
  t.is(answers.filter((answer) => answer === 'SLUICE_E_RUN_IN_USE').length, 3, answers.join(' '));
});

/** A lock of a process on another machine. */
function foreignLock(path: string, incarnation?: [number, number]): void {
  const owner = { pid: 1, host: 'elsewhere.example', started: 'x', token: 'theirs', incarnation };
  writeFileSync(path, JSON.stringify(owner));
}

test('an owner on another machine that shows no sign of life is taken over', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  foreignLock(path);
  const said: string[] = [];
  const lock = await acquireRunLock(path, (line) => said.push(line), 500);
  t.regex(said[0]!, /process 1 on elsewhere\.example owns the run/);
  t.is(lockOwner(path)?.pid, process.pid);
  lock.release();
});

test('one that touches its lock meanwhile is not', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  foreignLock(path);
  const taking = t.throwsAsync(
    acquireRunLock(path, () => {}, 60_000),
    inUse,
  );
  utimesSync(path, 1, 1);
  t.regex((await taking).message, /elsewhere\.example/);
});

test('an owner whose host has this one’s name, but which is in another container or not seen, is looked for as on another machine', async (t) => {
  for (const elsewhere of [{ container: 'another' }, { started: 'another boot:1' }]) {
    const path = join(temporaryDirectory(t), 'lock');
    writeFileSync(path, JSON.stringify({ ...ownIdentity(), token: 'theirs', ...elsewhere }));
    const taking = t.throwsAsync(
      acquireRunLock(path, () => {}, 60_000),
      inUse,
    );
    utimesSync(path, 1, 1);
    await taking;
    (await acquireRunLock(path, () => {}, 100)).release();
  }
});

test('a later incarnation takes a run over at once, and an earlier one does not', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  foreignLock(path, [7, 1]);
  t.throws(() => acquireLock(path, { incarnation: [7, 1] }), inUse);
  t.throws(() => acquireLock(path, { incarnation: [6, 9] }), inUse);
  const lock = acquireLock(path, { incarnation: [7, 2] });
  t.notThrows(() => lock.assertOwned());
  lock.release();
});

test('whoever was taken over finds out before it writes', (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  const lock = acquireLock(path, { incarnation: [1, 0] });
  const later = acquireLock(path, { incarnation: [2, 0] });
  const error = t.throws(() => lock.assertOwned(), { code: 'SLUICE_E_RUN_TAKEN_OVER' });
  t.regex(error.message, new RegExp(`process ${process.pid} on `));
  lock.release();
  t.notThrows(() => later.assertOwned(), 'the one before does not take the lock away');
  rmSync(path);
  const config = join(dirname(path), 'config.yaml');
  writeFileSync(config, '');
  t.throws(() => later.assertOwned(), { code: 'SLUICE_E_RUN_TAKEN_OVER', message: /its lock was removed/ });
  rmSync(config);
  t.notThrows(() => later.assertOwned(), 'a mount that vanishes with the lock is nobody who takes it over');
  rmSync(dirname(path), { recursive: true });
  t.notThrows(() => later.assertOwned(), 'nor if it leaves no directory');
  later.release();
});
