/** Libraries from PyPI, for a machine whatever Python it has: wheels are unpacked, and nothing of them is run. */

import type { ProgramCall } from './runProgram.ts';

export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
}

/** Which of the wheels of one version; their libraries are the same for every Python. */
const PYTHON_TAG = '3.11';

/** How a platform's wheels are called, newest first. */
const PLATFORM_TAGS: Readonly<Record<string, readonly string[]>> = {
  'linux-x64': manylinux('x86_64'),
  'linux-arm64': manylinux('aarch64'),
  'darwin-arm64': ['macosx_12_0_arm64'],
};

function manylinux(machine: string): string[] {
  return ['_2_28', '_2_27', '_2_17', '2014'].map((glibc) => `manylinux${glibc}_${machine}`);
}

/** Whether packages have wheels for a machine. */
export function hasWheels({ platform, arch }: Machine): boolean {
  return PLATFORM_TAGS[`${platform}-${arch}`] !== undefined;
}

/** Unpacks Python packages, and nothing that they depend on, without running any of them. */
export function pipInstallCall(
  machine: Machine,
  requirements: readonly string[],
  directory: string,
): ProgramCall {
  const tags = PLATFORM_TAGS[`${machine.platform}-${machine.arch}`]!;
  return {
    command: process.env.PYTHON ?? 'python3',
    args: [
      ...['-m', 'pip', 'install', '--disable-pip-version-check', '--root-user-action=ignore'],
      ...['--no-deps', '--no-compile', '--only-binary=:all:', '--progress-bar=off'],
      ...['--python-version', PYTHON_TAG, '--implementation', 'cp', '--abi', 'cp311', '--abi', 'none'],
      ...tags.flatMap((tag) => ['--platform', tag]),
      ...['--target', directory, ...requirements],
    ],
  };
}
