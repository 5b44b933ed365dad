/** Durations, limits and silence are judged by clocks that only go forward; the time of day only stamps what is written. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';

/** Files that write down when something happened, and judge nothing by it. */
const STAMPING = [
  'launcher/src/coordinator/team.ts',
  'launcher/src/coordinator/teamOutput.ts',
  'launcher/src/run/journal.ts',
  'packages/core/src/log.ts',
  'packages/observe/src/record.ts',
  'packages/observe/src/report/sections.ts',
];

const FOLDERS = ['launcher/bin', 'launcher/src', 'packages', 'scripts'];

function sources(): string[] {
  return FOLDERS.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  ).filter((path) => /\.(ts|js|cc|h)$/.test(path) && !/(^|\/)(node_modules|dist|bundle|build)\//.test(path));
}

test('only named files ask for the time of day', (t) => {
  const asking = /\bDate\.now\b|\bnew Date\(|\bgettimeofday\b|\bsystem_clock\b|\bCLOCK_REALTIME\b/;
  const found = sources().filter((path) => asking.test(readFileSync(path, 'utf8')));
  t.deepEqual(found.sort(), STAMPING);
});
