import { KERNEL_CASES, nativeCore, selectBackend } from '@sluice/engine';
import test from 'ava';

test('every kernel that is measured takes what it is given', async (t) => {
  await selectBackend('native');
  if (!nativeCore()) return t.pass('there is no core');
  const tried = new Set<string>();
  for (const [name, prepare] of Object.entries(KERNEL_CASES)) {
    // One size of each.
    const [kernel] = name.split(',') as [string];
    if (tried.has(kernel)) continue;
    tried.add(kernel);
    const { before, run } = prepare();
    before?.();
    t.notThrows(run, name);
  }
});
