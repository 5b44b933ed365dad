import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { namedHosts } from '../../../launcher/src/fleet/namedHosts.ts';
import { failureOf } from '../../support/failureOf.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

/** Writes files into a directory of the test's. @returns the directory */
function write(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'run'));
  for (const [path, text] of Object.entries(files)) writeFileSync(join(directory, path), text);
  return directory;
}

test('a file of hosts, a configuration with a list and one with a file, and a run all name hosts', (t) => {
  const directory = write(t, {
    'hosts.txt': 'h1 slots=2\nme@h2\n',
    'list.yaml': 'hosts: { on: ssh, list: [{ name: h3 }], sshCommand: ssh -F mine, advertise: 10.0.0.1 }\n',
    'file.yaml': 'hosts: { on: ssh, file: hosts.txt }\nmodel: { hiddenSize: 8 }\n',
    'run/config.yaml': 'hosts: { on: ssh, file: ../hosts.txt }\n',
  });
  const told = [{ name: 'h1', slots: 2 }, { name: 'me@h2' }];
  for (const source of ['hosts.txt', 'file.yaml', 'run']) {
    t.deepEqual(namedHosts(join(directory, source), undefined).hosts, told, source);
  }
  t.like(namedHosts(join(directory, 'list.yaml'), undefined), {
    hosts: [{ name: 'h3' }],
    command: ['ssh', '-F', 'mine'],
    advertise: '10.0.0.1',
  });
  t.deepEqual(namedHosts(join(directory, 'list.yaml'), 'other ssh').command, ['other', 'ssh']);
  t.deepEqual(namedHosts(join(directory, 'hosts.txt'), 'other ssh').command, ['other', 'ssh']);
});

const refusal = (source: string) => failureOf((async () => namedHosts(source, undefined))());

test('a configuration whose hosts ssh does not lead to is refused, and so is a directory without a run', async (t) => {
  const directory = write(t, { 'slurm.yaml': 'hosts: { on: slurm, nodes: 2 }\n', 'none.yaml': 'seed: 1\n' });
  for (const [source, on] of [
    ['slurm.yaml', 'slurm'],
    ['none.yaml', 'local'],
  ] as const) {
    const error = await refusal(join(directory, source));
    t.is(error.code, 'SLUICE_E_HOST_FILE');
    t.regex(error.message, new RegExp(`${source} names no hosts .*hosts.on is ${on}`));
  }
  t.is((await refusal(join(directory, 'run'))).code, 'SLUICE_E_RUN_MISSING');
});
