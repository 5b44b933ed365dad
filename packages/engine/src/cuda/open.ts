/** The device that a process computes on: the first visible GPU, or the emulator where `SLUICE_CUDA=emulated` asks for it. */

import { existsSync, readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { CudaDevice, type KernelCompiler } from './device.ts';
import { cudaDevices } from './devices.ts';
import { CudaDriver, versionText } from './driver.ts';
import { Emulator } from './emulator.ts';
import { cudaDriver, DRIVER_LIBRARY, isCudaEmulated, isHopperEmulated } from './environment.ts';
import { cachePath, hashOf, keep } from './kernelCache.ts';
import {
  HOPPER,
  isFor,
  type KernelSource,
  kernelFiles,
  kernelHeaders,
  kernelSource,
} from './kernelSource.ts';
import { findNvrtc, MAJORS } from './libraries.ts';
import { NVRTC_OPTIONS, type Nvrtc } from './nvrtc.ts';
import { generatedSources } from './stock/expressions.ts';

/** `SLUICE_CUDA_WATCH=off` makes the emulator faster: it then watches no memory. */
function emulated(): CudaDevice {
  const watch = process.env.SLUICE_CUDA_WATCH !== 'off';
  return new Emulator({ watch, isHopper: isHopperEmulated() }).device;
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

/**
 * Where the machine code of a kernel is kept. NVRTC's minor version is not in its name: the arithmetic is the one that is written, so
 * that no bit depends on it.
 * @param major of the CUDA that the compiler is of
 */
export function cubinName({ name, text }: KernelSource, architecture: string, major: number): string {
  const hash = hashOf(architecture, ...NVRTC_OPTIONS, JSON.stringify(kernelHeaders()), text);
  return `${name}-${architecture}-cuda${major}-${hash}.cubin`;
}

/**
 * Takes what was compiled before, here or where the files come from; what is not there is compiled, and kept.
 * @param driverVersion as 13000 for 13.0: of a newer CUDA's machine code a driver takes none
 * @param open gives the compiler; it is asked when it is needed
 */
export function cachingCompiler(
  architecture: string,
  driverVersion: number,
  open: () => Pick<Nvrtc, 'version' | 'compilerFor'>,
): KernelCompiler {
  const majors = MAJORS.filter((major) => major <= Math.floor(driverVersion / 1000));
  return {
    compile(source) {
      const kept = majors.map((major) => cachePath(cubinName(source, architecture, major))).find(existsSync);
      if (kept !== undefined) return readFileSync(kept);
      const nvrtc = open();
      const name = cubinName(source, architecture, Number.parseInt(nvrtc.version, 10));
      const cubin = nvrtc.compilerFor(architecture).compile(source);
      keep(name, cubin);
      return cubin;
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

/** What compiles ahead for a GPU, on which nothing is opened for it. */
export interface AheadCompiler {
  readonly architecture: string;
  /** All that it may be asked for. */
  readonly sources: readonly KernelSource[];
  readonly compiler: KernelCompiler;
}

/**
 * For the first visible GPU.
 * @throws SLUICE_E_CUDA where there is no driver or no GPU; what compiles does so without NVRTC
 */
export function openCompiler(): AheadCompiler {
  const driver = cudaDriver();
  if ('absence' in driver) throw new SluiceError('SLUICE_E_CUDA', `${driver.absence}.`);
  const [gpu] = cudaDevices(DRIVER_LIBRARY);
  if (!gpu) throw new SluiceError('SLUICE_E_CUDA', 'The CUDA driver shows no GPU.');
  const major = Math.floor(gpu.computeCapability);
  const architecture = architectureOf({ major, minor: Math.round(10 * (gpu.computeCapability - major)) });
  return {
    architecture,
    sources: [...kernelFiles().map(kernelSource), ...generatedSources].filter((each) =>
      isFor(each, architecture),
    ),
    compiler: cachingCompiler(architecture, driver.version, () => findNvrtc(driver.version).nvrtc),
  };
}

/** @throws SLUICE_E_CUDA where there is no driver or no GPU; without a compiler, kernels that were not compiled before */
export function openDevice(): OpenDevice {
  if (isCudaEmulated()) {
    const description = `kernels are emulated on the CPU${isHopperEmulated() ? ', those of a Hopper' : ''}`;
    return { device: emulated(), architecture: 'emulated', description };
  }
  const driver = new CudaDriver(DRIVER_LIBRARY);
  const architecture = architectureOf(driver.computeCapability);
  const found = nvrtcOrReason(driver.version);
  const description = [
    `${driver.deviceName} (${architecture}, ${(driver.memory.total / 2 ** 30).toFixed(1)} GiB)`,
    `a driver for CUDA ${versionText(driver.version)}`,
    found instanceof SluiceError
      ? 'kernels that were compiled before'
      : `NVRTC ${found.nvrtc.version} of ${found.path}`,
  ].join(', ');
  const compiler = cachingCompiler(architecture, driver.version, () => {
    if (found instanceof SluiceError) throw found;
    return found.nvrtc;
  });
  const isHopper = architecture === HOPPER;
  return { device: new CudaDevice(driver, compiler, { isHopper }), architecture, description };
}

/** The compiler, or why there is none: where all kernels were compiled before, none is needed. */
function nvrtcOrReason(driverVersion: number): ReturnType<typeof findNvrtc> | SluiceError {
  try {
    return findNvrtc(driverVersion);
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
}
