/** Whether the quickstart's weights are the bits that this version gives on every machine, as configs/quickstart.bits.json has them. */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './steps.js';

const expectedFile = join(root, 'configs/quickstart.bits.json');

/** The weights of a run's newest checkpoint, and what they follow from besides the code. */
function bitsOf(runDirectory) {
  const { stdout } = spawnSync(
    process.execPath,
    [join(root, 'launcher/bin/sluice.js'), 'hash', runDirectory, '--json'],
    { cwd: root, encoding: 'utf8' },
  );
  const { checkpoint, weights } = JSON.parse(stdout);
  const { step, probe } = JSON.parse(readFileSync(join(checkpoint, 'manifest.json'), 'utf8'));
  return { arithmetic: probe.arithmetic, step, weights };
}

/** One or two sentences for the user. */
export function compareBits(runDirectory) {
  if (!existsSync(expectedFile))
    return 'What this version gives elsewhere is not stored (npm run bits stores it).';
  const expected = JSON.parse(readFileSync(expectedFile, 'utf8'));
  const actual = bitsOf(runDirectory);
  if (actual.weights === expected.weights) {
    return `The weights are the same bits that this version gives everywhere (${expected.arithmetic}).`;
  }
  return `The weights are not those that this version gives everywhere (${expected.weights}): ${difference(expected, actual)}.`;
}

function difference(expected, actual) {
  if (actual.arithmetic !== expected.arithmetic) {
    return `they were computed with ${actual.arithmetic}, and not with ${expected.arithmetic} (npx sluice doctor says what this machine has)`;
  }
  if (actual.step !== expected.step) return `the run is at step ${actual.step}, and not at ${expected.step}`;
  return 'which should not be, unless the configuration, the corpus or the code were changed. Please report it with the output of: npx sluice doctor';
}

/** Makes the bits of a finished quickstart the expected ones. */
export function storeBits(runDirectory) {
  writeFileSync(expectedFile, `${JSON.stringify(bitsOf(runDirectory), null, 2)}\n`);
}
