/** The compiler, the C++ core, and the backend that will run. */

import { buildCommand, compilerCandidates, cxxCompiler, engineReport } from '@sluice/engine';
import type { Finding } from './finding.ts';

const REBUILD = buildCommand();

export function examineCompiler(): Finding {
  const compiler = cxxCompiler();
  if (compiler) return { name: 'compiler', found: compiler.version, ok: true, values: { ...compiler } };
  return {
    name: 'compiler',
    found: `none (tried ${compilerCandidates().join(', ')})`,
    ok: false,
    mend: `install a C++17 compiler (Debian: apt install g++), then: ${REBUILD}`,
    values: { command: null, version: null },
  };
}

/** Whether runs on this machine give the bits that they give elsewhere. */
function examineBits(isFused: boolean): Finding {
  return {
    name: 'bits',
    found: isFused
      ? 'those of every CPU with a fused multiply-add'
      : 'of its own: built without a fused multiply-add, so weights differ from those of other machines',
    ok: isFused,
    ...(!isFused && {
      mend: `on a CPU that has the instruction (x86-64-v3, 64-bit ARM): ${REBUILD}, without SLUICE_MARCH; to get the same bits without it, slowly: SLUICE_MARCH=scalar ${REBUILD}`,
    }),
    values: { everywhere: isFused },
  };
}

export function examineCore(): Finding[] {
  const { backend, native, compiler, march, openmp, simd, vectorWidth, isFused, cores } = engineReport();
  const { loaded } = native;
  return [
    {
      name: 'native core',
      found: loaded ? `built by ${compiler} for ${march}` : `not there: ${native.reason}`,
      ok: loaded,
      ...(!loaded && { mend: REBUILD }),
      values: { ...native, compiler, march },
    },
    {
      name: 'simd',
      found: loaded ? `${simd} (${vectorWidth} floats a vector)` : 'none: the C++ core is not there',
      ok: true,
      values: { level: simd, vectorWidth },
    },
    ...(loaded ? [examineBits(isFused)] : []),
    {
      name: 'threads',
      found: openmp ? `${cores} for one worker` : '1',
      ok: !loaded || openmp,
      ...(loaded && !openmp && { mend: `install a compiler with OpenMP, then: ${REBUILD}` }),
      values: { count: openmp ? cores : 1, openmp },
    },
    {
      name: 'backend',
      found: backend === 'cpu' ? 'cpu: the plain one of TensorFlow.js, much slower' : backend,
      ok: loaded,
      values: { name: backend },
    },
  ];
}
