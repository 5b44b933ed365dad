import { spawnSync } from 'node:child_process';
import { hostname } from 'node:os';
import { processSpace } from '@sluice/core';
import test from 'ava';

const CONTAINER = ['--user', '--map-root-user', '--pid', '--fork'];
const hasContainers = spawnSync('unshare', [...CONTAINER, 'true']).status === 0;

(hasContainers ? test : test.skip)('a container that has the name of its host is another space', (t) => {
  const core = JSON.stringify(import.meta.resolve('@sluice/core'));
  const program = `import { processSpace } from ${core}; console.log(processSpace());`;
  const node = [process.execPath, '--input-type=module', '-e', program];
  const { stdout } = spawnSync('unshare', [...CONTAINER, ...node], { encoding: 'utf8' });
  t.true(stdout.startsWith(`${hostname()}-`), stdout);
  t.not(stdout.trim(), processSpace());
});
