import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { hangUpMeaning, type Surroundings } from '../../launcher/src/signals/hangUp.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

function seen(changes: Partial<Surroundings> = {}): Surroundings {
  return {
    environment: { _: '/usr/bin/node', HOME: '/home/a' },
    isTerminal: () => false,
    writesTo: () => false,
    inputUnreadable: () => false,
    ancestorIgnores: () => false,
    ...changes,
  };
}

test('a hang-up stops a command unless nohup has left a trace', (t) => {
  const byShell = { environment: { _: '/usr/bin/nohup' } };
  t.is(hangUpMeaning(seen()), 'stop');
  t.is(hangUpMeaning(seen(byShell)), 'ignore');
  t.is(hangUpMeaning(seen({ writesTo: (path) => path === 'nohup.out' })), 'ignore');
  t.is(hangUpMeaning(seen({ writesTo: (path) => path === '/home/a/nohup.out' })), 'ignore');
  t.is(hangUpMeaning(seen({ inputUnreadable: () => true })), 'ignore');
  t.is(hangUpMeaning(seen({ ancestorIgnores: () => true })), 'ignore');
});

test('traces on a terminal are those of another program, but a process above that ignores hang-ups is none', (t) => {
  const onTerminal = { isTerminal: (descriptor: number) => descriptor === 2 };
  t.is(hangUpMeaning(seen({ ...onTerminal, environment: { _: 'nohup' } })), 'stop');
  t.is(hangUpMeaning(seen({ ...onTerminal, ancestorIgnores: () => true })), 'ignore');
});

test('what SLUICE_HANGUP says goes before what is seen; another value is refused', (t) => {
  const said = (value: string) => ({ environment: { SLUICE_HANGUP: value, _: 'nohup' } });
  t.is(hangUpMeaning(seen(said('stop'))), 'stop');
  t.is(hangUpMeaning(seen({ environment: { SLUICE_HANGUP: 'ignore' } })), 'ignore');
  t.is(hangUpMeaning(seen(said(''))), 'ignore');
  t.throws(() => hangUpMeaning(seen(said('maybe'))), { code: 'SLUICE_E_USAGE', message: /maybe/ });
});

const MODULE = new URL('../../launcher/dist/signals/hangUp.js', import.meta.url).href;
const PROGRAM = `
  const { prepareForHangUp, hangUpStops } = await import(${JSON.stringify(MODULE)});
  prepareForHangUp(() => { console.error('hung up'); process.exit(7); });
  setInterval(() => {}, 1000);
  console.error(hangUpStops() ? 'stops' : 'ignores');
`;

async function firstLine(child: ChildProcess): Promise<string> {
  const [chunk] = await once(child.stderr!, 'data');
  return String(chunk).trim();
}

if (process.platform === 'linux') {
  const node = [process.execPath, '--input-type=module', '-e', PROGRAM];
  const ways: [string, string, string[], string][] = [
    ['nohup in bash', 'bash', ['-c', 'nohup "$@"; true', 'x', ...node], 'ignores'],
    ['a script that nohup started', 'nohup', ['sh', '-c', '"$@"; true', 'x', ...node], 'ignores'],
    ['bash alone', 'bash', ['-c', '"$@"; true', 'x', ...node], 'stops'],
  ];
  for (const [name, command, words, expected] of ways) {
    test(`a process started by ${name} ${expected} at a hang-up`, async (t) => {
      const env = { ...process.env, _: undefined, SLUICE_HANGUP: undefined };
      const input = openSync('/dev/null', 'r');
      const child = spawn(command, words, { detached: true, stdio: [input, 'ignore', 'pipe'], env });
      t.teardown(() => {
        try {
          process.kill(-child.pid!, 'SIGKILL');
        } catch {
          // All have ended.
        }
      });
      t.is(await firstLine(child), expected);
      if (expected === 'stops') return;
      process.kill(-child.pid!, 'SIGHUP');
      t.is(await firstLine(child), 'hung up');
    });
  }

  test('a process whose output is nohup.out ignores hang-ups', async (t) => {
    const directory = temporaryDirectory(t);
    const output = openSync(join(directory, 'nohup.out'), 'a');
    const env = { ...process.env, _: undefined, SLUICE_HANGUP: undefined, HOME: directory };
    const child = spawn(node[0]!, node.slice(1), { stdio: ['ignore', output, 'pipe'], env });
    t.teardown(() => child.kill('SIGKILL'));
    t.is(await firstLine(child), 'ignores');
  });
}
