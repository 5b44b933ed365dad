import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { killedForMemory, MemoryWatch, memoryKills } from '../../../launcher/src/fleet/memoryKills.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

/** A system with these files. */
function system(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const root = temporaryDirectory(t);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const VMSTAT = { 'proc/vmstat': 'nr_free_pages 12\noom_kill 7\nthp 1\n' };

test('the counter of the control group is read in both versions, and from a container’s own mount', (t) => {
  const events = 'low 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n';
  const two = { 'proc/self/cgroup': '0::/job\n', ...VMSTAT };
  t.deepEqual(memoryKills(system(t, { ...two, 'sys/fs/cgroup/job/memory.events': events })), {
    group: 2,
    machine: 7,
  });
  t.is(memoryKills(system(t, { ...two, 'sys/fs/cgroup/memory.events': events })).group, 2);
  const one = { 'proc/self/cgroup': '5:cpu:/a\n4:memory:/a/b\n0::/\n' };
  const control = 'oom_kill_disable 0\nunder_oom 0\noom_kill 5\n';
  t.deepEqual(memoryKills(system(t, { ...one, 'sys/fs/cgroup/memory/a/b/memory.oom_control': control })), {
    group: 5,
    machine: undefined,
  });
  t.deepEqual(memoryKills(system(t, {})), { group: undefined, machine: undefined });
});

test('memory is named only where a counter has moved, and the group’s decides where it is seen', (t) => {
  const at = (group: number | undefined, machine: number | undefined) => ({ group, machine });
  t.is(killedForMemory(at(1, 5), at(1, 5)), '');
  t.regex(killedForMemory(at(1, 5), at(2, 6)), /killed by the kernel for want of memory/);
  // Another container's process.
  t.is(killedForMemory(at(1, 5), at(1, 6)), '');
  t.regex(
    killedForMemory(at(undefined, 5), at(undefined, 6)),
    /a process of this machine for want of memory/,
  );
  t.is(killedForMemory(at(undefined, undefined), at(undefined, undefined)), '');
});

test('a kill of long ago explains no death of now', (t) => {
  let kills = 0;
  const watch = new MemoryWatch(() => ({ group: kills, machine: undefined }));
  t.teardown(() => watch.end());
  kills = 1;
  t.not(watch.explain(), '');
  watch.tick();
  watch.tick();
  t.is(watch.explain(), '');
  kills = 2;
  watch.tick();
  t.not(watch.explain(), '');
});
