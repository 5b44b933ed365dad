/** Installs an optional backend: its packages, and for `tensorflow` the libraries under them. */

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError, writeFileAtomic } from '@sluice/core';
import {
  BACKENDS,
  type BackendName,
  backendDirectory,
  cudaDriver,
  type TensorflowInstallation,
  tensorflowInstallation,
  tensorflowPackage,
  tensorflowRecordFile,
} from '@sluice/engine';
import { installCudaPackages } from './cudaWheel.ts';
import { listGpus } from './gpus.ts';
import { installNpmPackages } from './npmPackages.ts';
import { probeBackend } from './probe.ts';
import { npmUnfit } from './tensorflowSource.ts';
import {
  addonFile,
  buildAddon,
  fetchLibraries,
  TENSORFLOW_VERSION,
  wheelAbsence,
} from './tensorflowWheel.ts';

export interface InstallResult {
  readonly backend: BackendName;
  /** Whether anything had to be done. */
  readonly fresh: boolean;
  readonly directory: string;
  readonly tensorflow?: TensorflowInstallation;
  /** Why it does not run here, where that is no fault of the installation: a machine may be set up without a GPU. */
  readonly remark?: string;
}

type Log = (line: string) => void;

/** TensorFlow's libraries of the npm package, by its version. */
const NPM_LIBRARIES = '2.9.1';

export interface InstallWishes {
  /** For `tensorflow`: whether NVIDIA GPUs are to be used. */
  readonly gpu: boolean;
  /** For `cuda`: whether several GPUs are to send each other their memory. */
  readonly nccl: boolean;
}

/**
 * @throws SLUICE_E_BACKEND_INSTALL when a step fails, SLUICE_E_BACKEND_FAILED when the backend does not run afterwards
 */
export async function installBackend(
  name: BackendName,
  { gpu, nccl }: InstallWishes,
  log: Log,
): Promise<InstallResult> {
  const directory = backendDirectory(name);
  const isThere = isInstalled(name, gpu) && (!nccl || hasNccl(directory));
  if (isThere && (await probeBackend(name)).runs) return describe(name, directory, false);
  if (name === 'cuda') return installCuda(directory, nccl, log);
  if (name === 'tensorflow') await installTensorflow(directory, gpu, log);
  else await installNpmPackages({ directory, packages: BACKENDS[name].packages, scripts: false }, log);
  await demandThatItRuns(name, directory);
  return describe(name, directory, true);
}

async function demandThatItRuns(name: BackendName, directory: string): Promise<void> {
  const { runs, reason } = await probeBackend(name);
  if (runs) return;
  throw new SluiceError('SLUICE_E_BACKEND_FAILED', `${name} was installed, but does not run: ${reason}`, {
    details: { backend: name, directory, reason },
  });
}

/** Of the packages of ours. */
function hasNccl(directory: string): boolean {
  return existsSync(join(directory, 'nvidia', 'nccl'));
}

/** The compiler of kernels; the driver comes with the machine. */
async function installCuda(directory: string, wantsNccl: boolean, log: Log): Promise<InstallResult> {
  const driver = cudaDriver();
  // What was fetched once stays.
  const nccl = wantsNccl || hasNccl(directory);
  if ('absence' in driver) {
    const isThere = existsSync(join(directory, 'nvidia')) && nccl === hasNccl(directory);
    if (!isThere) await installCudaPackages(directory, { driverVersion: undefined, nccl }, log);
    return { ...describe('cuda', directory, !isThere), remark: driver.absence };
  }
  await installCudaPackages(directory, { driverVersion: driver.version, nccl }, log);
  await demandThatItRuns('cuda', directory);
  return describe('cuda', directory, true);
}

function isInstalled(name: BackendName, gpu: boolean): boolean {
  if (BACKENDS[name].absence() !== undefined) return false;
  return name !== 'tensorflow' || tensorflowInstallation()?.gpu === gpu;
}

function describe(backend: BackendName, directory: string, fresh: boolean): InstallResult {
  const tensorflow = backend === 'tensorflow' ? tensorflowInstallation() : undefined;
  return { backend, fresh, directory, ...(tensorflow && { tensorflow }) };
}

/** First the ordinary package; where that cannot serve, its addon on the libraries of PyPI's TensorFlow. */
async function installTensorflow(directory: string, gpu: boolean, log: Log): Promise<void> {
  const { platform, arch } = process;
  const capabilities = gpu ? listGpus().map(({ computeCapability }) => computeCapability) : [];
  const unfit =
    npmUnfit({ platform, arch, gpu, computeCapabilities: capabilities }) ??
    (await installOrdinary(directory, gpu, log));
  if (unfit === undefined) return;
  log(`${tensorflowPackage(gpu).name} cannot bring its own libraries: ${unfit}`);
  const target = { gpu, platform, arch };
  const absence = wheelAbsence(target);
  if (absence) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_INSTALL',
      `No TensorFlow for this machine: ${unfit}; ${absence}.`,
      {
        details: { unfit, absence },
      },
    );
  }
  await installOnWheel(directory, target, log);
}

/** @returns why it did not come to run */
async function installOrdinary(directory: string, gpu: boolean, log: Log): Promise<string | undefined> {
  const wanted = tensorflowPackage(gpu);
  try {
    log(`installing ${wanted.name}@${wanted.version} with npm`);
    await installNpmPackages({ directory, packages: [wanted], scripts: true }, log);
  } catch (error) {
    return npmFailure(error);
  }
  await record({ package: wanted.name, gpu, source: 'npm', libraries: NPM_LIBRARIES });
  const { runs, reason } = await probeBackend('tensorflow');
  if (runs) return undefined;
  rmSync(tensorflowRecordFile(), { force: true });
  return reason;
}

/** The line of a failed npm that tells most. @throws what is no failure of npm, such as a Ctrl-C */
export function npmFailure(error: unknown): string {
  if (!(error instanceof SluiceError && error.code === 'SLUICE_E_BACKEND_INSTALL')) throw error;
  const lines = error.message.split('\n').map((line) => line.replace(/^\s*npm (error|ERR!)\s*/, ''));
  return lines.find((line) => /\bError: /.test(line)) ?? lines[0]!;
}

async function installOnWheel(
  directory: string,
  target: Parameters<typeof fetchLibraries>[0],
  log: Log,
): Promise<void> {
  const wanted = tensorflowPackage(target.gpu);
  const libraries = await fetchLibraries(target, log);
  log(`installing ${wanted.name}@${wanted.version} with npm, without its libraries`);
  await installNpmPackages({ directory, packages: [wanted], scripts: false }, log);
  const packageDirectory = join(directory, 'node_modules', wanted.name);
  await buildAddon(packageDirectory, libraries, log);
  log(`made ${addonFile(packageDirectory)}`);
  await record({ package: wanted.name, gpu: target.gpu, source: 'wheel', libraries: TENSORFLOW_VERSION });
}

async function record(installation: TensorflowInstallation): Promise<void> {
  await writeFileAtomic(tensorflowRecordFile(), `${JSON.stringify(installation, null, 2)}\n`);
}
