/** What NVIDIA's compiler refuses, by one that refuses all. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { cxxCompiler } from '@sluice/engine';
import { Nvrtc } from '@sluice/engine/cuda';
import test, { type ExecutionContext } from 'ava';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

const LOG = 'nvrtc: error: invalid value for --gpu-architecture (-arch)';

/** @param code that each compilation ends with */
function refusing(t: ExecutionContext, code: number): Nvrtc {
  const source = `
#include <cstring>
#define API extern "C" int
API nvrtcVersion(int* major, int* minor) { return *major = 12, *minor = 4, 0; }
API nvrtcCreateProgram(void** program, const char*, const char*, int, const char**, const char**) { return *program = program, 0; }
API nvrtcDestroyProgram(void**) { return 0; }
API nvrtcCompileProgram(void*, int, const char**) { return ${code}; }
API nvrtcGetCUBINSize(void*, size_t*) { return 0; }
API nvrtcGetCUBIN(void*, char*) { return 0; }
API nvrtcGetProgramLogSize(void*, size_t* size) { return *size = ${LOG.length + 1}, 0; }
API nvrtcGetProgramLog(void*, char* log) { return std::strcpy(log, "${LOG}"), 0; }
extern "C" const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR"; }
`;
  const library = join(temporaryDirectory(t), 'libnvrtc.so');
  execFileSync(cxxCompiler()!.command, ['-shared', '-fPIC', '-x', 'c++', '-', '-o', library], {
    input: source,
  });
  return new Nvrtc(library);
}

test('who has a compiler that is older than the card is told so', (t) => {
  const source = { name: 'flat', text: '' };
  t.throws(() => refusing(t, 5).compile(source, 'sm_120'), {
    code: 'SLUICE_E_CUDA',
    message: `flat.cu does not compile for sm_120: NVRTC_ERROR. NVRTC 12.4 is older than this kind of GPU: install a newer one (sluice backend install cuda fetches one).\n${LOG}`,
  });
  t.throws(() => refusing(t, 6).compile(source, 'sm_120'), {
    message: `flat.cu does not compile for sm_120: NVRTC_ERROR.\n${LOG}`,
  });
});
