/** The compiler, the C++ core, and the backend that will run. */

import { execFileSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { NATIVE_BACKEND, nativeBuildInfo, nativeCore } from '@sluice/engine';
import type { Finding } from './examine.ts';

const REBUILD = 'npm run build';

export function examineCompiler(): Finding {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  for (const command of candidates) {
    try {
      const text = execFileSync(command, ['--version'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const version = text.split('\n')[0] ?? '';
      return { name: 'compiler', found: version, ok: true, values: { command, version } };
    } catch {
      // Not this one.
    }
  }
  return {
    name: 'compiler',
    found: `none (tried ${candidates.join(', ')})`,
    ok: false,
    mend: `install a C++17 compiler (Debian: apt install g++), then: ${REBUILD}`,
    values: { command: null, version: null },
  };
}

export async function examineCore(): Promise<Finding[]> {
  const info = nativeBuildInfo();
  const core = nativeCore();
  const why =
    info.reason ?? (process.env.SLUICE_NATIVE === 'off' ? 'SLUICE_NATIVE is off' : 'it does not load');
  const vectorWidth = core?.vectorWidth?.() ?? 0;
  const level = describeVectors(vectorWidth, process.arch);
  const cores = availableParallelism();
  const parallel = core !== undefined && info.openmp === true;
  const backend = core ? NATIVE_BACKEND : 'cpu';
  return [
    {
      name: 'native core',
      found: core ? `built by ${info.compiler} for ${info.march}` : `not there: ${why}`,
      ok: core !== undefined,
      ...(!core && { mend: REBUILD }),
      values: { ...info, loaded: core !== undefined, ...(!core && { reason: why }) },
    },
    { name: 'simd', found: level, ok: true, values: { level } },
    {
      name: 'threads',
      found: parallel ? `${cores} for one worker` : '1',
      ok: !core || parallel,
      ...(core && !parallel && { mend: `install a compiler with OpenMP, then: ${REBUILD}` }),
      values: { count: parallel ? cores : 1, openmp: info.openmp ?? false },
    },
    {
      name: 'backend',
      found: backend === 'cpu' ? 'cpu: the plain one of TensorFlow.js, much slower' : backend,
      ok: core !== undefined,
      values: { name: backend },
    },
  ];
}

/** @param width floats in one vector of the C++ core */
function describeVectors(width: number, architecture: string): string {
  if (width === 0) return 'none: the C++ core is not there';
  if (architecture === 'arm64') return `NEON (${width} floats a vector)`;
  const names: Readonly<Record<number, string>> = { 16: 'AVX-512', 8: 'AVX2', 4: 'SSE' };
  return `${names[width] ?? 'unknown'} (${width} floats a vector)`;
}
