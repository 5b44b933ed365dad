/**
 * The addon of `@tensorflow/tfjs-node`, compiled against the libraries of PyPI's TensorFlow. The package's own script
 * fetches TensorFlow 2.9 for CUDA 11 from a host that not every network reaches; the wheels are newer, and come by pip.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { hasWheels, type Machine, pipInstallCall } from './pip.ts';
import { type ProgramCall, runProgram } from './runProgram.ts';

/** The version whose C API the addon is known to work with. */
export const TENSORFLOW_VERSION = '2.18.1';
export interface WheelTarget extends Machine {
  readonly gpu: boolean;
}

/** Why there is no wheel for a machine; undefined where there is one. */
export function wheelAbsence({ gpu, platform, arch }: WheelTarget): string | undefined {
  if (!hasWheels({ platform, arch })) return `PyPI has no TensorFlow libraries for ${platform} on ${arch}`;
  if (gpu && platform !== 'linux') return `TensorFlow uses no GPU on ${platform}`;
  return undefined;
}

/** The Python package that holds the libraries. */
export function wheelRequirement({ gpu, platform, arch }: WheelTarget): string {
  const isSlim = !gpu && platform === 'linux' && arch === 'x64';
  return `${isSlim ? 'tensorflow-cpu' : 'tensorflow'}==${TENSORFLOW_VERSION}`;
}

/** NVIDIA's libraries that TensorFlow's metadata asks for with the extra `and-cuda`. */
export function cudaRequirements(metadata: string): string[] {
  return metadata.split('\n').flatMap((line) => {
    const match = /^Requires-Dist: *(nvidia-[\w.-]+) *\(?(==[\w.]+)\)? *;.*extra == ['"]and-cuda['"]/.exec(
      line,
    );
    return match ? [`${match[1]}${match[2]}`] : [];
  });
}

/** Where the libraries are kept for all copies of Sluice of a user. */
export function libraryCache({ gpu, platform, arch }: WheelTarget): string {
  const caches = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const name = `tensorflow-${TENSORFLOW_VERSION}-${gpu ? 'cuda' : 'cpu'}-${platform}-${arch}`;
  return join(caches, 'sluice', 'backends', name);
}

/**
 * Fetches TensorFlow's headers and libraries into the cache, unless they are there.
 * @returns the folder that holds `tensorflow` and, for GPUs, `nvidia`
 */
export async function fetchLibraries(target: WheelTarget, log: (line: string) => void): Promise<string> {
  const cache = libraryCache(target);
  if (existsSync(cache)) return cache;
  const partial = `${cache}.partial-${process.pid}`;
  mkdirSync(dirname(cache), { recursive: true });
  try {
    const requirement = wheelRequirement(target);
    log(`fetching ${requirement} with pip`);
    await runProgram(`Fetching ${requirement}`, pipInstallCall(target, [requirement], partial), log);
    if (target.gpu) {
      const libraries = cudaRequirements(readMetadata(partial));
      log(`fetching ${libraries.length} NVIDIA libraries with pip`);
      await runProgram('Fetching NVIDIA’s libraries', pipInstallCall(target, libraries, partial), log);
    }
    keepLibraries(join(partial, 'tensorflow'));
    renameSync(partial, cache);
    return cache;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

function readMetadata(directory: string): string {
  const info = readdirSync(directory).find((name) => /^tensorflow-.*\.dist-info$/.test(name));
  if (!info) {
    throw new SluiceError('SLUICE_E_BACKEND_INSTALL', `pip left no metadata of TensorFlow in ${directory}.`);
  }
  return readFileSync(join(directory, info, 'METADATA'), 'utf8');
}

/** Removes TensorFlow's Python code: the headers and the libraries are what is needed. */
function keepLibraries(tensorflow: string): void {
  for (const entry of readdirSync(tensorflow)) {
    if (entry !== 'include' && !/^lib.*\.(so|dylib)/.test(entry)) {
      rmSync(join(tensorflow, entry), { recursive: true });
    }
  }
}

/**
 * The one call of the compiler that makes the addon.
 * @param packageDirectory folder of `@tensorflow/tfjs-node`
 * @param libraries what `fetchLibraries` gave
 */
export function compileCall(
  packageDirectory: string,
  libraries: string,
  platform: NodeJS.Platform,
): ProgramCall {
  const nodeHeaders = createRequire(import.meta.url)('node-api-headers').include_dir as string;
  const tensorflow = join(libraries, 'tensorflow');
  const nvidia = join(libraries, 'nvidia');
  const searched = [
    tensorflow,
    ...(existsSync(nvidia)
      ? readdirSync(nvidia)
          .sort()
          .map((name) => join(nvidia, name, 'lib'))
      : []),
  ];
  const names = ['libtensorflow_cc', 'libtensorflow_framework'];
  const isMac = platform === 'darwin';
  return {
    command: process.env.CXX ?? 'c++',
    args: [
      ...['-std=c++17', '-O2', '-fPIC', '-DNAPI_VERSION=8'],
      ...(isMac ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared']),
      ...[`-I${nodeHeaders}`, `-I${join(tensorflow, 'include')}`],
      ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((file) => join(packageDirectory, 'binding', file)),
      ...names.map((name) => join(tensorflow, isMac ? `${name}.2.dylib` : `${name}.so.2`)),
      ...searched.map((directory) => `-Wl,-rpath,${directory}`),
      ...['-o', addonFile(packageDirectory)],
    ],
  };
}

/** Where the package looks for its addon. */
export function addonFile(packageDirectory: string): string {
  return join(packageDirectory, 'lib', 'napi-v8', 'tfjs_binding.node');
}

/** Compiles the addon of the package in `packageDirectory`. */
export async function buildAddon(
  packageDirectory: string,
  libraries: string,
  log: (line: string) => void,
): Promise<void> {
  mkdirSync(dirname(addonFile(packageDirectory)), { recursive: true });
  log('compiling the addon');
  await runProgram('Compiling the addon', compileCall(packageDirectory, libraries, process.platform), log);
}
