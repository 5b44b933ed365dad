/** A directory that a test may fill, removed after it. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

export function temporaryDirectory(t: Pick<ExecutionContext, 'teardown'>): string {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
