import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  claimRuntimeDirectory,
  sweepRuntimeDirectories,
} from '../../launcher/src/coordinator/runtimeDirectory.ts';
import { ownIdentity } from '../../launcher/src/run/processIdentity.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

test('only the socket directories of dead coordinators are swept away', (t) => {
  const parent = temporaryDirectory(t);
  for (const name of ['sluice-mine', 'sluice-dead', 'sluice-unclaimed', 'other-dead'])
    mkdirSync(join(parent, name));
  claimRuntimeDirectory(join(parent, 'sluice-mine'));
  const dead = JSON.stringify({ ...ownIdentity(), started: 'long ago' });
  for (const name of ['sluice-dead', 'other-dead']) writeFileSync(join(parent, name, 'owner.json'), dead);
  mkdirSync(join(parent, 'sluice-other-container'));
  const elsewhere = { ...ownIdentity(), container: 'another' };
  writeFileSync(join(parent, 'sluice-other-container', 'owner.json'), JSON.stringify(elsewhere));
  t.deepEqual(sweepRuntimeDirectories(parent), ['sluice-dead']);
  t.deepEqual(readdirSync(parent).sort(), [
    'other-dead',
    'sluice-mine',
    'sluice-other-container',
    'sluice-unclaimed',
  ]);
});
