/** Installs npm packages of a backend into a folder of their own. */

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type InstallablePackage, sharesTensorflow } from '@sluice/engine';
import { type ProgramCall, runProgram } from './runProgram.ts';

export interface NpmInstallOptions {
  readonly directory: string;
  readonly packages: readonly InstallablePackage[];
  /** Whether the packages' install scripts run, which download their libraries. */
  readonly scripts: boolean;
}

export function npmInstallCall({ directory, packages, scripts }: NpmInstallOptions): ProgramCall {
  const wanted = packages.map(({ name, version }) => `${name}@${version}`);
  const flags = ['--prefix', directory, '--save-exact', '--no-audit', '--no-fund', '--loglevel=error'];
  return {
    command: process.platform === 'win32' ? 'npm.cmd' : 'npm',
    args: ['install', ...flags, ...(scripts ? [] : ['--ignore-scripts']), ...wanted],
    cwd: directory,
  };
}

/**
 * TensorFlow.js itself is not left in the folder where Node finds it further up: the packages must use the copy that the engine
 * uses.
 */
export async function installNpmPackages(
  options: NpmInstallOptions,
  log: (line: string) => void,
): Promise<void> {
  const { directory, packages, scripts } = options;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const names = packages.map(({ name }) => name);
  // npm asks since version 12 which packages may run scripts.
  const allowScripts = Object.fromEntries(names.map((name) => [name, scripts]));
  const manifest = { private: true, allowScripts: { ...allowScripts, 'core-js': false } };
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest, null, 2));
  await runProgram(`Installing ${names.join(' and ')}`, npmInstallCall(options), log);
  if (sharesTensorflow()) removeSharedPackages(directory, names);
}

function removeSharedPackages(directory: string, names: readonly string[]): void {
  const scope = join(directory, 'node_modules', '@tensorflow');
  for (const entry of readdirSync(scope)) {
    if (!names.includes(`@tensorflow/${entry}`)) rmSync(join(scope, entry), { recursive: true });
  }
}
