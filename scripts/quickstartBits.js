/** Whether the quickstart's weights are the bits that this version gives on every machine, as configs/quickstart.bits.json has them. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './steps.js';

const expectedFile = join(root, 'configs/quickstart.bits.json');

/** What the weights follow from, besides the code. */
const INPUTS = ['configs/quickstart.yaml', 'data/recipes/english-small.yaml'];

function hashOfInputs() {
  const hash = createHash('sha256');
  // Lines end alike, whatever git made of them when it checked the files out.
  for (const path of INPUTS)
    hash.update(readFileSync(join(root, path), 'utf8').replaceAll('\r\n', '\n')).update('\0');
  return hash.digest('hex');
}

async function bitsOf(runDirectory) {
  const { stdout } = spawnSync(
    process.execPath,
    [join(root, 'launcher/bin/sluice.js'), 'hash', runDirectory, '--json'],
    { cwd: root, encoding: 'utf8' },
  );
  const { arithmetic, selectBackend } = await import('@sluice/engine');
  await selectBackend('native');
  return { arithmetic: arithmetic(), inputs: hashOfInputs(), weights: JSON.parse(stdout).weights };
}

/** One or two sentences for the user. */
export async function compareBits(runDirectory) {
  if (!existsSync(expectedFile))
    return 'What this version gives elsewhere is not stored (npm run bits stores it).';
  const expected = JSON.parse(readFileSync(expectedFile, 'utf8'));
  const actual = await bitsOf(runDirectory);
  if (actual.weights === expected.weights) {
    return `The weights are the same bits that this version gives everywhere (${expected.arithmetic}).`;
  }
  return `The weights are not those that this version gives everywhere (${expected.weights}): ${difference(expected, actual)}.`;
}

function difference(expected, actual) {
  if (actual.arithmetic !== expected.arithmetic) {
    return `this machine computes with ${actual.arithmetic}, and not with ${expected.arithmetic} (npx sluice doctor says why)`;
  }
  if (actual.inputs !== expected.inputs) return `one of ${INPUTS.join(', ')} has been changed`;
  return 'which should not be. Please report it with the output of: npx sluice doctor';
}

/** Makes the bits of a finished quickstart the expected ones. */
export async function storeBits(runDirectory) {
  writeFileSync(expectedFile, `${JSON.stringify(await bitsOf(runDirectory), null, 2)}\n`);
}
