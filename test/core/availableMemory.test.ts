import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { availableMemory } from '@sluice/core';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const cases: [string, Record<string, string>, number][] = [
  ['no control groups', {}, 1000],
  ['no limit', { 'sys/fs/cgroup/memory.max': 'max\n' }, 1000],
  ['a container', { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.max': '400\n' }, 400],
  [
    'a group above, with less than the group itself',
    {
      'proc/self/cgroup': '0::/slice/unit\n',
      'sys/fs/cgroup/slice/memory.max': '300\n',
      'sys/fs/cgroup/slice/unit/memory.max': '600\n',
    },
    300,
  ],
  ['more than there is', { 'sys/fs/cgroup/memory.max': '5000\n' }, 1000],
  [
    'version 1',
    {
      'proc/self/cgroup': '3:memory:/m\n4:cpu,cpuacct:/c\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      'sys/fs/cgroup/memory/m/memory.limit_in_bytes': '500\n',
    },
    500,
  ],
];

for (const [name, files, bytes] of cases) {
  test(`memory by control groups: ${name}`, (t) => {
    const root = temporaryDirectory(t);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), content);
    }
    t.is(availableMemory(root, 1000), bytes);
  });
}
