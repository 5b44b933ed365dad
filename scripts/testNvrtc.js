/**
 * `npm run test:nvrtc`: whether NVIDIA's compiler takes every CUDA kernel for every kind of GPU that Sluice is for, and whether the
 * machine code is what was meant: nothing spilled from registers to memory, products by tensor cores, parameters and threads as launches
 * have them. It needs no GPU. NVRTC and a disassembler come from PyPI (63 MB, kept in `node_modules/.cache`); `PYTHON` names the
 * interpreter with pip. Where they cannot be had it says so, and skips. `npm run test:nvrtc -- matmul` compiles one file alone.
 */

import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { skip } from './tools.js';
import { ARCHITECTURES, unpackedWheels, wheelCache } from './wheels.js';
import { refuse, scriptWords } from './words.js';

/** CUDA 13.0. */
const DRIVER_VERSION = 13000;

const wanted = scriptWords(import.meta.url, { most: Infinity }).positionals;
setup();
const { nvrtcRequirement } = await import(join(root, 'launcher/dist/backends/cudaWheel.js'));
const PACKAGES = [nvrtcRequirement(DRIVER_VERSION), 'nvidia-cuda-nvdisasm==13.5.37'];
const {
  cubinKernels,
  findNvrtc,
  generatedSources,
  isFor,
  kernelFiles,
  kernelSource,
  parameterBytes,
  resourcesOf,
  signatures,
} = await import(join(root, 'packages/engine/dist/cuda/index.js'));
const sources = [...kernelFiles().map(kernelSource), ...generatedSources].filter(
  ({ name }) => wanted.length === 0 || wanted.includes(name),
);
const unknown = wanted.find((word) => sources.every(({ name }) => name !== word));
if (unknown !== undefined) refuse(`No file of kernels is called '${unknown}'.`);
const cases = sources.flatMap((source) =>
  ARCHITECTURES.filter((architecture) => isFor(source, architecture)).map((architecture) => ({
    source,
    architecture,
  })),
);

const toolkit = join(await unpackedWheels(PACKAGES, (reason) => skip(reason, cases.length)), 'nvidia/cu13');
const { lib, bin } = { lib: join(toolkit, 'lib'), bin: join(toolkit, 'bin') };
process.env.SLUICE_CUDA_LIBRARIES = lib;
const { nvrtc } = findNvrtc(DRIVER_VERSION);
process.stdout.write(`NVRTC ${nvrtc.version}\n`);

/** How often each instruction is in each kernel's machine code. */
function instructions(cubin) {
  const file = join(wheelCache, `${process.pid}.cubin`);
  writeFileSync(file, cubin);
  const { status, stdout, stderr } = spawnSync(join(bin, 'nvdisasm'), ['--print-code', file], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  rmSync(file);
  if (status !== 0) throw new Error(`nvdisasm failed: ${stderr}`);
  const counts = new Map();
  let kernel;
  for (const line of stdout.split('\n')) {
    const section = /^\s*\.section\s+\.text\.(\w+)/.exec(line)?.[1];
    if (section) {
      kernel = new Map();
      counts.set(section, kernel);
    }
    const name = /^\s+\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)/.exec(line)?.[1];
    if (name) kernel?.set(name, (kernel.get(name) ?? 0) + 1);
  }
  return counts;
}

/** The instructions of products on tensor cores, and of the copies that run beside them; Hopper's own are for whole warpgroups and tiles. */
const PRODUCTS = { product: 'HMMA', copy: 'LDGSTS' };
const HOPPER_PRODUCTS = { product: 'HGMMA', copy: 'UTMALDG' };

/** What is wrong with a kernel, or nothing. */
function faults({ name, frameBytes }, file, resources, counts) {
  const { product, copy } = file.endsWith('Hopper') ? HOPPER_PRODUCTS : PRODUCTS;
  // In single precision there are no tensor cores.
  const hasProducts =
    (/^(m|expertM)atmul|^delta(Chunks|States|Gradients)/.test(name) && !name.endsWith('Float')) ||
    file.endsWith('Hopper');
  // With decays of channels, chunks are scaled on their way to shared memory.
  const hasCopies = hasProducts && !/^(peak|deltaChunksOfChannels)/.test(name);
  const spills = (resources?.spillStores ?? Number.NaN) + (resources?.spillLoads ?? Number.NaN);
  const count = (instruction) => counts.get(instruction) ?? 0;
  return [
    spills !== 0 && `${name} spills ${spills} bytes`,
    frameBytes !== 0 && `${name} has ${frameBytes} bytes of local memory`,
    count('LDL') + count('STL') > 0 && `${name} loads or stores local memory`,
    hasProducts && count(product) === 0 && `${name} has no ${product}`,
    hasCopies && count(copy) === 0 && `${name} has no ${copy}, and copies nothing beside the arithmetic`,
  ].filter(Boolean);
}

/** Where launches would have other arguments, or more threads, than the machine code takes. */
function misunderstood({ name, threads, parameters }, signature) {
  if (!signature) return [`${name} is no kernel of the source`];
  const expected = signature.parameters.map(parameterBytes);
  const found = parameters.map(({ bytes }) => bytes);
  // Structs have the sizes of their own.
  const isAlike =
    expected.length === found.length && expected.every((bytes, i) => (bytes ?? found[i]) === found[i]);
  return [
    !isAlike &&
      `${name} takes parameters of ${found.join(', ')} bytes, where launches have ${expected.join(', ')}`,
    threads !== signature.threads &&
      `${name} is for ${threads} threads, and launched with ${signature.threads}`,
  ].filter(Boolean);
}

/** Registers by kernel, one column an architecture. */
const registers = new Map();
let failed = 0;
for (const { source, architecture } of cases) {
  const wrong = [];
  let what = '';
  try {
    const { cubin, log } = nvrtc.compile(source, architecture);
    const counts = instructions(cubin);
    const resources = new Map(resourcesOf(log).map((entry) => [entry.name, entry]));
    const kernels = cubinKernels(cubin);
    const expected = signatures(source);
    if (expected.size !== kernels.length) wrong.push(`${expected.size} kernels in the source`);
    for (const kernel of kernels) {
      wrong.push(
        ...faults(kernel, source.name, resources.get(kernel.name), counts.get(kernel.name) ?? new Map()),
        ...misunderstood(kernel, expected.get(kernel.name)),
      );
      registers.set(kernel.name, { ...registers.get(kernel.name), [architecture]: kernel.registers });
    }
    // Such as "C7510: Potential Performance Loss".
    wrong.push(...(log.match(/^.*(warning|C75\d\d).*$/gim) ?? []));
    what = `${kernels.length} kernels, ${cubin.length} bytes`;
  } catch (error) {
    wrong.push(error.message);
  }
  if (wrong.length > 0) failed++;
  process.stdout.write(
    `${wrong.length === 0 ? 'ok' : 'not ok'} ${source.name} for ${architecture} (${what})\n`,
  );
  for (const line of wrong) process.stdout.write(`  ${line}\n`);
}

process.stdout.write(`\nRegisters of each thread\n${['kernel'.padEnd(36), ...ARCHITECTURES].join(' ')}\n`);
for (const [name, counts] of registers) {
  const columns = ARCHITECTURES.map((name) => String(counts[name] ?? '').padStart(name.length));
  process.stdout.write(`${[name.padEnd(36), ...columns].join(' ')}\n`);
}
process.stdout.write(`${cases.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
