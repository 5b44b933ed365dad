/** Where NVRTC is: it may come with CUDA, or as a package from PyPI. */

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { backendDirectory } from '../backends/location.ts';
import { Nvrtc } from './nvrtc.ts';

/** Major versions of NVRTC, the newest first. */
export const MAJORS: readonly number[] = [13, 12];

/** Folders that may hold libraries, the best first; none stands for what the loader knows. */
function* folders(): Generator<string | undefined> {
  if (process.env.SLUICE_CUDA_LIBRARIES) yield process.env.SLUICE_CUDA_LIBRARIES;
  yield* ofWheels(backendDirectory('cuda'));
  yield undefined;
  yield '/usr/local/cuda/lib64';
  const packages = pythonPackages();
  if (packages) yield* ofWheels(packages);
}

/** Folders of libraries that PyPI's packages have: `nvidia/cu13/lib`, `nvidia/cuda_nvrtc/lib`. */
function ofWheels(folder: string): string[] {
  const nvidia = join(folder, 'nvidia');
  return existsSync(nvidia) ? readdirSync(nvidia).map((name) => join(nvidia, name, 'lib')) : [];
}

/** Where `python3` on the path has its packages. */
function pythonPackages(): string | undefined {
  const program = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
  try {
    return execFileSync('python3', ['-c', program], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return undefined;
  }
}

/**
 * The newest NVRTC whose machine code a driver takes.
 * @param driverVersion as 13000 for 13.0
 * @throws SLUICE_E_CUDA
 */
export function findNvrtc(driverVersion: number): { readonly path: string; readonly nvrtc: Nvrtc } {
  const most = Math.floor(driverVersion / 1000);
  const tried: string[] = [];
  for (const folder of folders()) {
    for (const major of MAJORS.filter((version) => version <= most)) {
      const name = `libnvrtc.so.${major}`;
      const path = folder === undefined ? name : join(folder, name);
      if (folder !== undefined && !existsSync(path)) continue;
      try {
        return { path, nvrtc: new Nvrtc(path) };
      } catch (error) {
        tried.push((error as Error).message);
      }
    }
  }
  throw new SluiceError(
    'SLUICE_E_CUDA',
    `NVRTC ${most} or older, NVIDIA's compiler of kernels, was not found. Install CUDA, or the package nvidia-cuda-nvrtc from ` +
      `PyPI, or name the folder of libnvrtc.so in SLUICE_CUDA_LIBRARIES.${tried.map((text) => `\n${text}`).join('')}`,
  );
}
