/**
 * `npm run gpu:pack`: an archive with which a bare machine, without a network, runs the GPU kit: Node, Sluice as it is built here, its
 * kernels' source and their machine code for every kind of GPU, golden bits. It is for Linux on x64 with glibc.
 * `npm run gpu:pack -- FILE` names it; without PyPI, whose NVRTC compiles the kernels, it says so and makes none.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { root, runOrExit, setup } from './steps.js';
import { ARCHITECTURES, unpackedWheels } from './wheels.js';
import { scriptWords } from './words.js';

const MOST_BYTES = 60e6;
/** CUDA 12: drivers of it, and all newer ones, take its machine code. */
const DRIVER_VERSION = 12000;
/** Any x64 CPU since 2015; the same bits. */
const MARCH = 'x86-64-v3';

/** What of `node_modules` runs, by the packages' names; of prebuilt addons those for this system. */
const PACKAGES = {
  koffi: (file) => /\.(c?js|json|txt)$/.test(file) && !/\/(vendor|doc)\//.test(file),
  '@koromix/koffi-linux-x64': (file) => !file.includes('musl'),
  zeromq: (file) =>
    !/\/(src|script)\//.test(file) &&
    (!file.includes('/build/') || /manifest\.json|linux\/x64\/node\/glibc-(115|127)-/.test(file)),
  'cmake-ts': (file) => /loader|package\.json/.test(file),
  tokenizers: (file) => !file.endsWith('.node') || file.endsWith('linux-x64-gnu.node'),
  uplot: () => true,
};

const RUN = `#!/bin/sh
# Measures and checks Sluice on this machine's NVIDIA GPU: ./run.sh --help
here=$(cd "$(dirname "$0")" && pwd)
LD_LIBRARY_PATH="$here/lib\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/node" "$here/launcher/bundle/gpuKit.js" "$@"
`;

if (process.platform !== 'linux' || process.arch !== 'x64') {
  process.stderr.write('The archive is for Linux on x64, and is made there.\n');
  process.exit(1);
}
const [file = 'sluice-gpu-linux-x64.tar.gz'] = scriptWords(import.meta.url, { most: 1 }).positionals;
const archive = resolve(file);
setup();
const folder = mkdtempSync(join(tmpdir(), 'sluice-gpu-pack-'));
const stage = join(folder, 'sluice-gpu');
try {
  packSluice();
  packPackages();
  packNode();
  const compiled = await packKernels();
  // A bare system may lack what unpacks better ones.
  runOrExit('tar', ['-C', folder, '--use-compress-program=gzip -9', '-cf', archive, 'sluice-gpu']);
  const { size } = statSync(archive);
  process.stdout.write(`${archive}: ${(size / 1e6).toFixed(1)} MB, ${compiled} cubins\n`);
  if (size > MOST_BYTES) throw new Error(`the archive has more than ${MOST_BYTES / 1e6} MB`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Copies a file or a folder of the repository to its place in the archive. */
function pack(path, filter = (_file) => true) {
  const source = join(root, path);
  mkdirSync(dirname(join(stage, path)), { recursive: true });
  cpSync(source, join(stage, path), {
    recursive: true,
    filter: (file) => statSync(file).isDirectory() || filter(`/${file.slice(source.length + 1)}`),
  });
}

/** What an installed Sluice has, and its core, built for other CPUs as well. */
function packSluice() {
  const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const path of ['package.json', ...files]) {
    if (path === 'packages/engine/native') continue;
    // Folders of scripts have their maps beside them.
    pack(path.replace('/*.js', ''), (file) => !file.endsWith('.map') && !/\.d\.ts$/.test(file));
  }
  const core = join(root, 'node_modules/.cache/sluice-gpu-pack');
  runOrExit(process.execPath, [join(root, 'packages/engine/native/build.js'), '--strict'], {
    env: { ...process.env, SLUICE_MARCH: MARCH, SLUICE_BUILD_DIR: core },
  });
  for (const name of ['sluice.node', 'info.json'])
    cpSync(join(core, name), join(stage, 'packages/engine/build', name));
}

function packPackages() {
  for (const [name, filter] of Object.entries(PACKAGES)) pack(join('node_modules', name), filter);
}

/** This Node, without its symbols where that can be done, and what the core needs that a bare system may lack. */
function packNode() {
  cpSync(process.execPath, join(stage, 'node'));
  spawnSync('strip', ['-s', join(stage, 'node')], { stdio: 'ignore' });
  writeFileSync(join(stage, 'run.sh'), RUN);
  for (const program of ['node', 'run.sh']) chmodSync(join(stage, program), 0o755);
  const compiler = process.env.CXX ?? 'c++';
  const openmp = execFileSync(compiler, ['-print-file-name=libgomp.so.1'], { encoding: 'utf8' }).trim();
  mkdirSync(join(stage, 'lib'));
  cpSync(openmp, join(stage, 'lib/libgomp.so.1'), { dereference: true });
}

/**
 * Puts the machine code of all kernels where the archive's Sluice looks for it. What was compiled before is kept here as well.
 * @returns how many files
 */
async function packKernels() {
  const { nvrtcRequirement } = await import(join(root, 'launcher/dist/backends/cudaWheel.js'));
  const cuda = await import(join(root, 'packages/engine/dist/cuda/index.js'));
  const wheels = await unpackedWheels([nvrtcRequirement(DRIVER_VERSION)], (reason) => {
    throw new Error(`Kernels cannot be compiled: ${reason}`);
  });
  process.env.SLUICE_CUDA_LIBRARIES = join(wheels, 'nvidia/cuda_nvrtc/lib');
  const { nvrtc } = cuda.findNvrtc(DRIVER_VERSION);
  const target = join(stage, 'packages/engine/build/cuda');
  mkdirSync(target, { recursive: true });
  const sources = [...cuda.kernelFiles().map(cuda.kernelSource), ...cuda.generatedSources];
  let compiled = 0;
  for (const source of sources) {
    for (const architecture of ARCHITECTURES.filter((each) => cuda.isFor(source, each))) {
      const compiler = cuda.cachingCompiler(architecture, DRIVER_VERSION, () => nvrtc);
      const name = cuda.cubinName(source, architecture, DRIVER_VERSION / 1000);
      const cubin = compiler.compile(source);
      const spilled = cuda.cubinKernels(cubin).filter(({ frameBytes }) => frameBytes > 0);
      // `npm run test:nvrtc` sees to it with the newest compiler.
      for (const kernel of spilled)
        process.stderr.write(`warning: ${kernel.name} has local memory for ${architecture}\n`);
      writeFileSync(join(target, name), cubin);
      compiled++;
    }
    process.stderr.write(`${source.name} compiled by NVRTC ${nvrtc.version}\n`);
  }
  return compiled;
}
