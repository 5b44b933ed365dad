/** NVRTC, NVIDIA's compiler of kernels, from PyPI: all that `cuda` needs beside the driver. No CUDA toolkit, no C++ compiler. */

import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { SluiceError } from '@sluice/core';
import { hasWheels, pipInstallCall } from './pip.ts';
import { runProgram } from './runProgram.ts';

/** By the major version of CUDA, whose machine code drivers of that version take. */
const REQUIREMENTS = { 12: 'nvidia-cuda-nvrtc-cu12==12.9.86', 13: 'nvidia-cuda-nvrtc==13.5.37' };

/**
 * The package for a driver.
 * @param driverVersion as 13000 for 13.0; undefined where there is none yet: the newest
 * @throws SLUICE_E_BACKEND_INSTALL for a driver that is too old
 */
export function nvrtcRequirement(driverVersion: number | undefined): string {
  const major = driverVersion === undefined ? 13 : Math.floor(driverVersion / 1000);
  if (major >= 13) return REQUIREMENTS[13];
  if (major === 12) return REQUIREMENTS[12];
  throw new SluiceError(
    'SLUICE_E_BACKEND_INSTALL',
    `The NVIDIA driver takes CUDA ${major} at most, and the kernels need 12: install driver 525 or newer.`,
    { details: { driverVersion } },
  );
}

/** Unpacks the package into the folder, which has the whole of it or is not there. */
export async function installNvrtc(
  directory: string,
  driverVersion: number | undefined,
  log: (line: string) => void,
): Promise<void> {
  const { platform, arch } = process;
  if (platform !== 'linux' || !hasWheels({ platform, arch })) {
    const what = `cuda is for Linux on x64 and arm64, not for ${platform} on ${arch}.`;
    throw new SluiceError('SLUICE_E_BACKEND_INSTALL', what, { details: { platform, arch } });
  }
  const requirement = nvrtcRequirement(driverVersion);
  const partial = `${directory}.partial-${process.pid}`;
  mkdirSync(dirname(directory), { recursive: true });
  try {
    log(`fetching ${requirement} with pip`);
    await runProgram(
      `Fetching ${requirement}`,
      pipInstallCall({ platform, arch }, [requirement], partial),
      log,
    );
    rmSync(directory, { recursive: true, force: true });
    renameSync(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}
