import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadYamlConfig } from '@sluice/core';
import { HostsConfig } from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import { z } from 'zod';
import { planHosts } from '../../../launcher/src/fleet/hostsPlan.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

const Config = z.strictObject({ hosts: HostsConfig.prefault({}) });

function hostsOf(t: ExecutionContext, yaml: string, overrides: readonly string[] = []): HostsConfig {
  const path = join(temporaryDirectory(t), 'run.yaml');
  writeFileSync(path, yaml);
  return loadYamlConfig(path, Config, { overrides }).hosts;
}

const LISTED = `
hosts:
  on: ssh
  list:
    - { name: me@gpu-1, slots: 8 }
    - { name: gpu-2, address: 10.0.0.2 }
  listen: tcp://0.0.0.0:7700
  sshCommand: ssh -F config
`;

test('the configuration says which hosts there are, and how they are reached', (t) => {
  const plan = planHosts({}, hostsOf(t, LISTED), 'run.yaml');
  t.like(plan, { starter: 'ssh', listen: 'tcp://0.0.0.0:7700', sshCommand: 'ssh -F config' });
  t.like(plan.hosts, [
    { name: 'me@gpu-1', slots: 8 },
    { name: 'gpu-2', address: '10.0.0.2' },
  ]);
  t.is(plan.saidBy, 'run.yaml');
});

test('each flag goes before its key, and --on before file and list too', (t) => {
  const config = hostsOf(t, LISTED);
  t.is(planHosts({ listen: 'tcp://127.0.0.1:1' }, config, 'c').listen, 'tcp://127.0.0.1:1');
  const plan = planHosts({ on: 'agents', nodes: 3 }, config, 'c');
  t.like(plan, { starter: 'agents', nodes: 3, hosts: [], file: undefined, saidBy: '--on agents' });
  t.is(planHosts({ on: 'local' }, config, 'c').starter, 'local');
});

test('nothing said is this machine alone', (t) => {
  t.like(planHosts({}, hostsOf(t, '{}'), 'c'), { starter: 'local', hosts: [], saidBy: 'nobody' });
});

test('a file of hosts is relative to the file that names it', (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'site'));
  writeFileSync(join(directory, 'site/base.yaml'), 'hosts: { on: ssh, file: hosts.txt }\n');
  writeFileSync(join(directory, 'run.yaml'), 'extends: site/base.yaml\n');
  t.is(loadYamlConfig(join(directory, 'run.yaml'), Config).hosts.file, 'site/hosts.txt');
});

for (const [yaml, message] of [
  ['hosts: { on: ssh }', /run\.yaml:1:\d+ .*either hosts\.file or hosts\.list/],
  [
    'hosts: { on: "ssh:hosts.txt" }',
    /run\.yaml:1:\d+ .*expected one of "local", "ssh", .*got "ssh:hosts\.txt"/,
  ],
  ['hosts: { on: slurm, list: [{ name: a }] }', /is for ssh only, but hosts\.on is slurm/],
  ['hosts: { file: hosts.txt }', /says nothing to local/],
  ['hosts: { on: ssh, list: [{ name: a }, { name: a }] }', /a is there twice/],
  ['hosts: { on: ssh, list: [{ name: -oProxyCommand=x }] }', /hosts\.list\.0\.name/],
  ['hosts: { on: kubernetes }', /needs hosts\.file/],
] as const) {
  test(`a configuration that says ${yaml} is refused with the place`, (t) => {
    t.throws(() => hostsOf(t, yaml), { code: 'SLUICE_E_CONFIG_INVALID', message });
  });
}
