import { closeSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { processSpace } from '@sluice/core';
import test from 'ava';
import { sweepRings } from '../../packages/collectives/src/sharedRing.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

test('rings that no process of this host has open are swept away', (t) => {
  const folder = temporaryDirectory(t);
  const names = [
    `sluice-ring-${processSpace()}-held`,
    `sluice-ring-${processSpace()}-left`,
    'sluice-ring-elsewhere-1',
    'other',
  ];
  for (const name of names) writeFileSync(join(folder, name), '');
  const held = openSync(join(folder, names[0]!), 'r');
  sweepRings(folder);
  t.deepEqual(readdirSync(folder).sort(), ['other', 'sluice-ring-elsewhere-1', names[0]!].sort());
  closeSync(held);
});
