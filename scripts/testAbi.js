/**
 * `npm run test:abi`: whether what is taken for NVIDIA's C interfaces is what their headers say: every function of the driver, of NVRTC and of
 * NCCL that TypeScript calls, by the name that libraries export; every number and layout of `header.ts`; and the functions that the emulator has
 * in their place. The platform's C++ compiler decides, by the headers of CUDA 12.0, 12.9 and 13 from PyPI (150 MB, kept in
 * `node_modules/.cache`); it needs no GPU. NCCL's header comes with the library alone: `-- --nccl` fetches it (305 MB), `-- --nccl FOLDER` names
 * one that has it. What cannot be had is named, and skipped. So that nothing passes by being left out, mistakes are planted in each kind
 * of claim, and have to be found.
 */

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { skip } from './tools.js';
import { unpackedWheels } from './wheels.js';
import { scriptWords } from './words.js';

const { values, positionals } = scriptWords(import.meta.url, {
  options: { nccl: { type: 'boolean', default: false } },
  most: 1,
});
setup();
const { compilerCandidates, cxxCompiler } = await import(join(root, 'packages/engine/dist/compiler.js'));
const { CUDA, driverFunctions, LAYOUTS, NCCL, NVRTC, ncclFunctions, nvrtcFunctions, parameterFunctions } =
  await import(join(root, 'packages/engine/dist/cuda/index.js'));
const { ncclRequirement, nvrtcRequirement } = await import(join(root, 'launcher/dist/backends/cudaWheel.js'));

/** The oldest that the driver may be of, and those whose NVRTC is installed, which have later functions. */
const TOOLKITS = [
  { name: 'CUDA 12.0', packages: ['nvidia-cuda-runtime-cu12==12.0.107', 'nvidia-cuda-nvrtc-cu12==12.0.76'] },
  {
    name: 'CUDA 12.9',
    packages: ['nvidia-cuda-runtime-cu12==12.9.79', nvrtcRequirement(12_090)],
    isLater: true,
  },
  { name: 'CUDA 13', packages: ['nvidia-cuda-runtime==13.5.37', nvrtcRequirement(13_000)], isLater: true },
];

const emulator = join(root, 'packages/engine/cuda/emulator');
const EMULATOR_FILES = readdirSync(emulator).filter((file) => file.endsWith('.cc'));

/** C++'s names for koffi's types, where they are others. */
const TYPES = {
  str: 'const char *',
  uint: 'unsigned',
  '_Out_ const char **': 'const char **',
};
const typeOf = (name) => TYPES[name] ?? name;

/** What a module declares, as functions of C++: `declare` is told of a library that notes them. */
function declarations(declare) {
  const found = [];
  declare({
    func(name, result, parameters) {
      found.push({ name, type: `${typeOf(result)}(${parameters.map(typeOf).join(', ')})` });
      return () => {};
    },
  });
  return found;
}

const functionClaim = ({ name, type }) =>
  `static_assert(IsCalledAlike<${type}, decltype(${name})>::value, "${name} is another function than ${type}");`;
const numberClaim = ([name, value]) =>
  `static_assert(static_cast<long long>(${name}) == ${value === -(2 ** 31) ? 'INT_MIN' : value}, "${name} is not ${value}");`;
/** @param {[string, { bytes?: number, members: Record<string, number> }]} layout */
const layoutClaims = ([name, { bytes, members }]) => [
  ...(bytes === undefined
    ? []
    : [`static_assert(sizeof(${name}) == ${bytes}, "${name} has not ${bytes} bytes");`]),
  ...Object.entries(members).map(
    ([member, at]) =>
      `static_assert(offsetof(${name}, ${member}) == ${at}, "${name}.${member} does not lie at ${at}");`,
  ),
];
/** @param {[string, unknown]} layout */
const ofNccl = ([name]) => name.startsWith('nccl');

const PARTS = {
  cuda: {
    include: '#include <cuda.h>\n#include <nvrtc.h>',
    functions: [...declarations(driverFunctions), ...declarations(nvrtcFunctions)],
    numbers: Object.entries({ ...CUDA, ...NVRTC }),
    layouts: Object.entries(LAYOUTS).filter((entry) => !ofNccl(entry)),
  },
  nccl: {
    include: '#include <nccl.h>',
    functions: declarations((library) => ncclFunctions(library, 'ncclUniqueId')),
    numbers: Object.entries(NCCL),
    layouts: Object.entries(LAYOUTS).filter(ofNccl),
  },
};

/** With what the oldest toolkit does not have. */
const LATER = {
  ...PARTS.cuda,
  functions: [...PARTS.cuda.functions, ...declarations(parameterFunctions)],
};

/** All claims of a part. */
function claims({ functions, numbers, layouts }) {
  return [...functions.map(functionClaim), ...numbers.map(numberClaim), ...layouts.flatMap(layoutClaims)];
}

/** One mistake in each kind of claim: all of them have to be found. */
function mistakes({ functions, numbers, layouts }) {
  const [{ name, type }] = functions;
  const wider = functions.find(({ type }) => /\(.*\bint\b/.test(type));
  const [layout, { members }] = layouts.find(([, { members }]) => Object.keys(members).length > 0);
  const [member, at] = Object.entries(members)[0];
  return [
    functionClaim({ name, type: type.replace(')', type.endsWith('()') ? 'int)' : ', int)') }),
    functionClaim({ ...wider, type: wider.type.replace(/\((.*)\bint\b/, '($1size_t') }),
    numberClaim([numbers.at(-1)[0], numbers.at(-1)[1] + 1]),
    ...layoutClaims([layout, { members: { [member]: at + 4 } }]),
  ];
}

// The plain names are those that libraries export, also where the header gives them to newer functions.
const PROLOGUE = `#define __CUDA_API_VERSION_INTERNAL\n`;

/** The emulator's own functions beside those of the headers, whose names it has. */
function emulatorSource(file, { include, functions }) {
  const names = functions.map(({ name }) => name);
  const own = (name) => `#define ${name} emulated_${name}`;
  return `${PROLOGUE}#include <cuda.h>
${include}
#include "alike.h"
${names.map(own).join('\n')}
#include "${join(emulator, file)}"
${names.map((name) => `#undef ${name}`).join('\n')}
`;
}

const compiler = cxxCompiler();
if (!compiler) skip(`there is no C++ compiler (tried ${compilerCandidates().join(', ')}).`);
const folder = mkdtempSync(join(tmpdir(), 'sluice-abi-'));
/** NCCL's header asks for the runtime's, of which it needs no more than this. */
const stubs = join(folder, 'stubs');
mkdirSync(stubs);
writeFileSync(
  join(stubs, 'cuda_runtime.h'),
  '#pragma once\n#include <stddef.h>\ntypedef struct CUstream_st *cudaStream_t;\n',
);
writeFileSync(join(stubs, 'cuda_fp16.h'), '#pragma once\n');

/** @returns what the compiler has against it, or nothing */
function objections(source, includes) {
  const flags = ['-std=c++17', '-fsyntax-only', '-w', `-I${join(root, 'scripts/abi')}`];
  const { status, stderr, error } = spawnSync(
    compiler.command,
    [...flags, ...includes.map((path) => `-I${path}`), '-x', 'c++', '-'],
    { input: source, encoding: 'utf8', maxBuffer: 1 << 26 },
  );
  if (error) throw error;
  return status === 0 ? '' : stderr;
}

let [passed, failed, skipped] = [0, 0, 0];
function report(what, wrong) {
  if (wrong) failed++;
  else passed++;
  process.stdout.write(`${wrong ? 'not ok' : 'ok'} ${what}\n`);
  for (const line of wrong.split('\n').filter((text) => /error/.test(text)))
    process.stdout.write(`  ${line}\n`);
}
function leaveOut(what, reason) {
  skipped++;
  process.stdout.write(`skipped ${what}: ${reason}\n`);
}

/** All that is claimed of a part, and then each mistake by itself. */
function holdAgainst(where, part, includes) {
  const source = (lines) => `${PROLOGUE}${part.include}\n#include "alike.h"\n${lines.join('\n')}\n`;
  const all = claims(part);
  report(
    `${all.length} functions, numbers and layouts are those of ${where}`,
    objections(source(all), includes),
  );
  // By the claim, and not since the source is none.
  const missed = mistakes(part).filter(
    (mistake) => !/static.assert/.test(objections(source([mistake]), includes)),
  );
  report(
    `mistakes are found by the headers of ${where}`,
    missed.map((line) => `error: not found: ${line}`).join('\n'),
  );
}

/** The emulator's files that have functions of a part. */
function holdEmulator(where, part, includes) {
  const declared = new Set();
  for (const file of EMULATOR_FILES) {
    const source = emulatorSource(file, part);
    const names = part.functions.map(({ name }) => name).filter((name) => hasFunction(file, name));
    for (const name of names) declared.add(name);
    if (names.length === 0) continue;
    const claim = (name) =>
      `static_assert(IsCalledAlike<decltype(emulated_${name}), decltype(${name})>::value, "${name} is another function");`;
    report(
      `the emulator's ${names.length} functions of ${file} are those of ${where}`,
      objections(`${source}${names.map(claim).join('\n')}\n`, includes),
    );
  }
  // NVRTC has none.
  const lacking = part.functions.filter(({ name }) => !name.startsWith('nvrtc') && !declared.has(name));
  report(
    `the emulator has all functions of ${where} that are called`,
    lacking.map(({ name }) => `error: ${name} is not there`).join('\n'),
  );
}

function hasFunction(file, name) {
  return new RegExp(`^API(_TEXT)? ${name}\\(`, 'm').test(readFileSync(join(emulator, file), 'utf8'));
}

/** Where wheels of either kind have headers. */
function includesOf(wheels) {
  const nvidia = join(wheels, 'nvidia');
  return readdirSync(nvidia)
    .map((name) => join(nvidia, name, 'include'))
    .filter(existsSync);
}

/** Or why they cannot be had. */
async function headers(packages) {
  const includes = [];
  for (const name of packages) {
    let absence;
    const wheels = await unpackedWheels([name], (reason) => {
      absence = reason;
      throw new Error(reason);
    }).catch((error) => {
      if (absence === undefined) throw error;
    });
    if (wheels === undefined) return { absence };
    includes.push(...includesOf(wheels));
  }
  return { includes };
}

try {
  let newest;
  for (const { name, packages, isLater } of TOOLKITS) {
    const { includes, absence } = await headers(packages);
    if (!includes) {
      leaveOut(name, absence);
      continue;
    }
    holdAgainst(name, isLater ? LATER : PARTS.cuda, includes);
    newest = { name, includes };
  }
  if (newest) holdEmulator(newest.name, LATER, newest.includes);

  const { includes, absence } = !values.nccl
    ? {
        absence:
          '-- --nccl fetches its header, with the library (305 MB), and -- --nccl FOLDER names one that has it',
      }
    : positionals.length > 0
      ? { includes: positionals }
      : await headers([ncclRequirement(undefined)]);
  if (!includes) leaveOut('NCCL', absence);
  else {
    holdAgainst('NCCL', PARTS.nccl, [stubs, ...includes]);
    if (newest) holdEmulator('NCCL', PARTS.nccl, [stubs, ...includes, ...newest.includes]);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exitCode = failed === 0 ? 0 : 1;
