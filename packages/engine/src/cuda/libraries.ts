/** Where NVRTC and NCCL are: they may come with CUDA, with the system, or as packages from PyPI. */

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { backendDirectory } from '../backends/location.ts';
import { Nccl } from './nccl.ts';
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
  const names = MAJORS.filter((version) => version <= most).map((major) => `libnvrtc.so.${major}`);
  const { found, reasons } = firstThatOpens(names, (path) => new Nvrtc(path));
  if (found) return { path: found.path, nvrtc: found.opened };
  throw new SluiceError(
    'SLUICE_E_CUDA',
    `NVRTC ${most} or older, NVIDIA's compiler of kernels, was not found. Install CUDA, or the package nvidia-cuda-nvrtc from ` +
      `PyPI, or name the folder of libnvrtc.so in SLUICE_CUDA_LIBRARIES.${reasons}`,
  );
}

/**
 * NCCL, by which several GPUs send each other their memory.
 * @throws SLUICE_E_NCCL
 */
export function findNccl(): { readonly path: string; readonly nccl: Nccl } {
  const { found, reasons } = firstThatOpens(['libnccl.so.2'], (path) => new Nccl(path));
  if (found) return { path: found.path, nccl: found.opened };
  throw new SluiceError(
    'SLUICE_E_NCCL',
    `no NCCL was found, which sluice backend install cuda --nccl fetches (or SLUICE_CUDA_LIBRARIES names its folder)${reasons}`,
  );
}

/** @param names of files, the best first */
function firstThatOpens<T>(
  names: readonly string[],
  open: (path: string) => T,
): { readonly found?: { readonly path: string; readonly opened: T }; readonly reasons: string } {
  const tried: string[] = [];
  for (const folder of folders()) {
    for (const name of names) {
      const path = folder === undefined ? name : join(folder, name);
      if (folder !== undefined && !existsSync(path)) continue;
      try {
        return { found: { path, opened: open(path) }, reasons: '' };
      } catch (error) {
        tried.push((error as Error).message);
      }
    }
  }
  return { reasons: tried.map((text) => `\n${text}`).join('') };
}
