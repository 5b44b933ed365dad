import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

const directory = mkdtempSync(join(tmpdir(), 'sluice-broken-core-'));
writeFileSync(join(directory, 'sluice.node'), 'not a library');
process.env.SLUICE_BUILD_DIR = directory;
const engine = await import('@sluice/engine');

test.after.always(() => rmSync(directory, { recursive: true }));

test('a core that does not load is reported, and the plain backend runs', async (t) => {
  const { backend, native } = engine.engineReport();
  t.is(backend, 'cpu');
  t.false(native.loaded);
  t.regex((native as { reason: string }).reason, /^it does not load: .*sluice\.node/);
  t.is(await engine.selectBackend('native'), 'cpu');
});
