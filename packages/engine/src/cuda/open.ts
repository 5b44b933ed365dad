/** The device that a process computes on: the first visible GPU, or the emulator where `SLUICE_CUDA=emulated` asks for it. */

import { readFileSync, writeFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { DRIVER_LIBRARY, isCudaEmulated } from '../backends/cuda.ts';
import { CudaDevice, type KernelCompiler } from './device.ts';
import { CudaDriver } from './driver.ts';
import { Emulator } from './emulator.ts';
import { cachedFile, hashOf } from './kernelCache.ts';
import { kernelHeaders } from './kernelSource.ts';
import { findNvrtc } from './libraries.ts';
import { NVRTC_OPTIONS, type Nvrtc } from './nvrtc.ts';

/** `SLUICE_CUDA_WATCH=off` makes the emulator faster: it then watches no memory. */
function emulated(): CudaDevice {
  return new Emulator({ watch: process.env.SLUICE_CUDA_WATCH !== 'off' }).device;
}

/**
 * What NVRTC calls the kind of a GPU; with the instructions of its own that some kinds have.
 * @throws SLUICE_E_CUDA for one without bf16 on tensor cores
 */
export function architectureOf({ major, minor }: { major: number; minor: number }): string {
  if (major < 8) {
    throw new SluiceError(
      'SLUICE_E_CUDA',
      `The GPU has compute capability ${major}.${minor}, and the kernels need 8.0 or more (Ampere).`,
    );
  }
  const hasOwn = minor === 0 && (major === 9 || major === 10);
  return `sm_${major}${minor}${hasOwn ? 'a' : ''}`;
}

/** Keeps what NVRTC has compiled. */
export function cachingCompiler(
  nvrtc: Pick<Nvrtc, 'version' | 'compilerFor'>,
  architecture: string,
): KernelCompiler {
  const compiler = nvrtc.compilerFor(architecture);
  return {
    compile(source) {
      const parts = [
        nvrtc.version,
        architecture,
        ...NVRTC_OPTIONS,
        JSON.stringify(kernelHeaders()),
        source.text,
      ];
      const name = `${source.name}-${architecture}-${hashOf(...parts)}.cubin`;
      return readFileSync(cachedFile(name, (path) => writeFileSync(path, compiler.compile(source))));
    },
  };
}

export interface OpenDevice {
  readonly device: CudaDevice;
  /** What kernels are compiled for, and so what their bits depend on. */
  readonly architecture: string;
  /** What computes, in words. */
  readonly description: string;
}

/** @throws SLUICE_E_CUDA where there is no driver, no GPU, or no compiler */
export function openDevice(): OpenDevice {
  if (isCudaEmulated())
    return { device: emulated(), architecture: 'emulated', description: 'kernels are emulated on the CPU' };
  const driver = new CudaDriver(DRIVER_LIBRARY);
  const architecture = architectureOf(driver.computeCapability);
  const { nvrtc, path } = findNvrtc(driver.version);
  const description = [
    `${driver.deviceName} (${architecture}, ${(driver.memory.total / 2 ** 30).toFixed(1)} GiB)`,
    `a driver for CUDA ${Math.floor(driver.version / 1000)}.${(driver.version % 1000) / 10}`,
    `NVRTC ${nvrtc.version} of ${path}`,
  ].join(', ');
  return { device: new CudaDevice(driver, cachingCompiler(nvrtc, architecture)), architecture, description };
}
