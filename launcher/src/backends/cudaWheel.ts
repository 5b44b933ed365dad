/**
 * NVRTC, NVIDIA's compiler of kernels, from PyPI: all that `cuda` needs beside the driver. No CUDA toolkit, no C++ compiler. For several
 * GPUs also NCCL, by which they send each other their memory.
 */

import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { SluiceError } from '@sluice/core';
import { hasWheels, pipInstallCall } from './pip.ts';
import { runProgram } from './runProgram.ts';

/** By the major version of CUDA, whose machine code drivers of that version take. */
const REQUIREMENTS = {
  12: { nvrtc: 'nvidia-cuda-nvrtc-cu12==12.9.86', nccl: 'nvidia-nccl-cu12==2.32.3' },
  13: { nvrtc: 'nvidia-cuda-nvrtc==13.5.37', nccl: 'nvidia-nccl-cu13==2.32.3' },
};

/**
 * The package of the compiler for a driver.
 * @param driverVersion as 13000 for 13.0; undefined where there is none yet: the newest
 * @throws SLUICE_E_BACKEND_INSTALL for a driver that is too old
 */
export function nvrtcRequirement(driverVersion: number | undefined): string {
  return requirementsFor(driverVersion).nvrtc;
}

/** The package of NCCL, in the same way. */
export function ncclRequirement(driverVersion: number | undefined): string {
  return requirementsFor(driverVersion).nccl;
}

function requirementsFor(driverVersion: number | undefined) {
  const major = driverVersion === undefined ? 13 : Math.floor(driverVersion / 1000);
  if (major >= 12) return REQUIREMENTS[major === 12 ? 12 : 13];
  throw new SluiceError(
    'SLUICE_E_BACKEND_INSTALL',
    `The NVIDIA driver takes CUDA ${major} at most, and the kernels need 12: install driver 525 or newer.`,
    { details: { driverVersion } },
  );
}

/** Unpacks the packages into the folder, which has the whole of them or is not there. */
export async function installCudaPackages(
  directory: string,
  { driverVersion, nccl }: { driverVersion: number | undefined; nccl: boolean },
  log: (line: string) => void,
): Promise<void> {
  const { platform, arch } = process;
  if (platform !== 'linux' || !hasWheels({ platform, arch })) {
    const what = `cuda is for Linux on x64 and arm64, not for ${platform} on ${arch}.`;
    throw new SluiceError('SLUICE_E_BACKEND_INSTALL', what, { details: { platform, arch } });
  }
  const packages = [nvrtcRequirement(driverVersion), ...(nccl ? [ncclRequirement(driverVersion)] : [])];
  const names = packages.join(' and ');
  const partial = `${directory}.partial-${process.pid}`;
  mkdirSync(dirname(directory), { recursive: true });
  try {
    log(`fetching ${names} with pip`);
    await runProgram(`Fetching ${names}`, pipInstallCall({ platform, arch }, packages, partial), log);
    rmSync(directory, { recursive: true, force: true });
    renameSync(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}
