import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { availableCores } from '@sluice/core';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const cases: [string, Record<string, string>, number, number | undefined][] = [
  ['no control groups', {}, 8, undefined],
  [
    'version 2 without a quota',
    { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': 'max 100000\n' },
    8,
    undefined,
  ],
  [
    'version 2, as a container sees it',
    { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': '200000 100000\n' },
    2,
    2,
  ],
  [
    'a group above, with less than the group itself',
    {
      'proc/self/cgroup': '0::/slice/unit\n',
      'sys/fs/cgroup/cpu.max': 'max 100000\n',
      'sys/fs/cgroup/slice/cpu.max': '350000 100000\n',
      'sys/fs/cgroup/slice/unit/cpu.max': '600000 100000\n',
    },
    3,
    3.5,
  ],
  ['less than a core', { 'sys/fs/cgroup/cpu.max': '50000 100000\n' }, 1, 0.5],
  ['more than there are', { 'sys/fs/cgroup/cpu.max': '6400000 100000\n' }, 8, 64],
  [
    'the host’s names, which a container does not see',
    { 'proc/self/cgroup': '0::/docker/abc\n', 'sys/fs/cgroup/cpu.max': '400000 100000\n' },
    4,
    4,
  ],
  [
    'version 1',
    {
      'proc/self/cgroup': '3:memory:/m\n4:cpu,cpuacct:/docker/abc\n',
      'sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us': '250000\n',
      'sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us': '50000\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1\n',
    },
    5,
    5,
  ],
  [
    'version 1 by its other name, with a broken file',
    {
      'proc/self/cgroup': '4:cpuacct,cpu:/\n',
      'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '300000\n',
      'sys/fs/cgroup/cpu/cpu.cfs_period_us': 'nonsense',
    },
    8,
    undefined,
  ],
];

for (const [name, files, count, quota] of cases) {
  test(`cores by control groups: ${name}`, (t) => {
    const root = temporaryDirectory(t);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), content);
    }
    t.deepEqual(availableCores(root, 8), { count, allowed: 8, quota });
  });
}
