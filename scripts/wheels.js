/** Wheels from PyPI, unpacked and kept in `node_modules/.cache`; nothing of them is run by Python. `PYTHON` names the interpreter with pip. */

import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from './steps.js';

/** What of Sluice is compiled for each kind of GPU. */
export const ARCHITECTURES = ['sm_80', 'sm_86', 'sm_89', 'sm_90a', 'sm_100a', 'sm_120'];

export const wheelCache = join(root, 'node_modules/.cache/sluice-nvrtc');

/**
 * @param {string[]} packages with their versions
 * @param {(reason: string) => void} giveUp ends the command: it is told why they cannot be had
 * @returns the folder that holds them
 */
export async function unpackedWheels(packages, giveUp) {
  const { hasWheels, pipInstallCall } = await import(join(root, 'launcher/dist/backends/pip.js'));
  const folder = join(wheelCache, packages.join('+').replaceAll('==', '-'));
  if (existsSync(join(folder, 'done'))) return folder;
  if (process.platform !== 'linux' || !hasWheels(process))
    giveUp('NVRTC’s wheels are for Linux on x64 and arm64.');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const { command, args } = pipInstallCall(process, packages, folder);
  if (run(command, args) !== 0) giveUp(`pip could not fetch ${packages.join(' and ')} from PyPI.`);
  writeFileSync(join(folder, 'done'), '');
  return folder;
}
