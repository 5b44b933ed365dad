import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import test from 'ava';
import { formatEndpoint, isLoopback, parseEndpoint } from '../../../launcher/src/fleet/address.ts';
import { nodeName, parseHostFile, readHostFile } from '../../../launcher/src/fleet/hostFile.ts';
import { makeKeyFile, readKeyFile } from '../../../launcher/src/fleet/keyFile.ts';
import { sshWords } from '../../../launcher/src/fleet/starters/ssh.ts';
import { givenIncarnation, isLater } from '../../../launcher/src/run/incarnation.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

test('a file of hosts: a host a line, settings after it, remarks for people', (t) => {
  const text =
    '# ours\nme@gpu-1 slots=8 address=10.0.0.1\n\n  gpu-2   node=/opt/node  sluice=/s/sluice.js # the slow one\n';
  t.deepEqual(parseHostFile(text, 'hosts'), [
    { name: 'me@gpu-1', slots: 8, address: '10.0.0.1' },
    { name: 'gpu-2', node: '/opt/node', sluice: '/s/sluice.js' },
  ]);
  t.is(nodeName({ name: 'me@gpu-1' }), 'gpu-1');
});

for (const [text, message] of [
  ['', /names no host/],
  ['a\na', /:2: a is there twice/],
  ['a slots=0', /:1: slots=0 is no whole number/],
  ['a slot=1', /slot=1 is none of slots=…, address=…/],
  ['a 8', /8 is none of/],
  ['-oProxyCommand=x', /is no name of a host/],
] as const) {
  test(`a file of hosts that holds ${JSON.stringify(text)} is refused with the line`, (t) => {
    const error = t.throws(() => parseHostFile(text, 'hosts'), { instanceOf: SluiceError });
    t.is(error.code, 'SLUICE_E_HOST_FILE');
    t.regex(error.message, message);
  });
}

test('a file of hosts that is not there is a coded error', (t) => {
  t.throws(() => readHostFile('/nonexistent'), { code: 'SLUICE_E_HOST_FILE', message: /ENOENT/ });
});

test('what ssh executes has no shell in between, and quotes what a shell would read', (t) => {
  const words = sshWords({ name: 'h', node: "/opt/no de/node's", sluice: '/s/sluice.js' }, [
    'ssh',
    '-F',
    'c',
  ]);
  t.deepEqual(words.slice(0, 3), ['ssh', '-F', 'c']);
  t.deepEqual(words.slice(-3), ['--', 'h', "exec '/opt/no de/node'\\''s' /s/sluice.js agent --stdio"]);
  t.true(words.includes('BatchMode=yes') && words.includes('ControlPath=none'));
});

test('a key file is its owner’s alone, and read back; one that others may read is refused', (t) => {
  const path = join(temporaryDirectory(t), 'run.key');
  const keys = makeKeyFile(path);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.deepEqual(readKeyFile(path), keys);
  chmodSync(path, 0o644);
  t.throws(() => readKeyFile(path), {
    code: 'SLUICE_E_KEY_FILE',
    message: /others may read it \(mode 644\)/,
  });
  chmodSync(path, 0o600);
  writeFileSync(path, readFileSync(path, 'utf8').replace('publicKey', 'key'));
  t.throws(() => readKeyFile(path), { code: 'SLUICE_E_KEY_FILE', message: /holds no JSON object/ });
  t.throws(() => readKeyFile(`${path}.gone`), { code: 'SLUICE_E_KEY_FILE', message: /ENOENT/ });
});

test('addresses are tcp://HOST:PORT, with brackets about IPv6', (t) => {
  for (const text of ['tcp://10.0.0.1:7700', 'tcp://[fe80::1]:80', 'tcp://node-0.sluice:1']) {
    t.is(formatEndpoint(parseEndpoint(text)), text);
  }
  for (const text of ['10.0.0.1:7700', 'tcp://a', 'tcp://a:70000', 'tcp://:80', 'udp://a:1', 'tcp://a:1/']) {
    t.throws(() => parseEndpoint(text), { code: 'SLUICE_E_USAGE' }, text);
  }
  t.true(isLoopback('127.9.9.9') && isLoopback('::1') && !isLoopback('10.127.0.1'));
});

test('incarnations are compared as numbers, the first before the second', (t) => {
  t.true(isLater([10, 0], [9, 99]) && isLater([9, 10], [9, 9]));
  t.false(isLater([9, 9], [9, 9]) || isLater([9, 99], [10, 0]));
  t.deepEqual(givenIncarnation({ SLUICE_INCARNATION: '4711.12' }), [4711, 12]);
  t.deepEqual(givenIncarnation({ SLUICE_INCARNATION: '3' }), [3, 0]);
  t.is(givenIncarnation({}), undefined);
  t.throws(() => givenIncarnation({ SLUICE_INCARNATION: 'x' }), { code: 'SLUICE_E_USAGE' });
});
