import { readdirSync } from 'node:fs';
import test from 'ava';
import { loadRunConfig } from '../../launcher/src/run/runConfig.ts';
import { validateConfig } from '../../launcher/src/run/validate.ts';

const CONFIGS = readdirSync('configs/stability').filter((name) => name.endsWith('.yaml'));

for (const name of CONFIGS) {
  test(`configs/stability/${name} is a run that can begin`, (t) => {
    t.notThrows(() => validateConfig(loadRunConfig(`configs/stability/${name}`, {})));
  });
}
