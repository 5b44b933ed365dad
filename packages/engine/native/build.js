/**
 * Builds the C++ core for the machine it is on: `node packages/engine/native/build.js [--strict] [--force]`.
 *
 * Needs only a C++17 compiler; Node's C API headers come from npm. Nothing is done when sources, flags and compiler are
 * those of the last build. Without a compiler the installation still succeeds (unless --strict): Sluice then runs on
 * TensorFlow.js's plain CPU backend, and `sluice doctor` says why.
 *
 * CXX               the compiler (default: the first of c++, g++, clang++ that works)
 * SLUICE_MARCH      the instruction set to compile for (default: native), such as x86-64-v3; `scalar` is any CPU of this
 *                   architecture, without vectors: slow, and the same bits
 * SLUICE_BUILD_DIR  where the result goes, and where it is looked for at run time (default: packages/engine/build)
 */

import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const sources = join(here, 'src');
const output = process.env.SLUICE_BUILD_DIR ?? join(here, '..', 'build');
const addon = join(output, 'sluice.node');
const infoFile = join(output, 'info.json');
const strict = process.argv.includes('--strict');
const force = process.argv.includes('--force');

function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  for (const candidate of candidates) {
    try {
      const version = execFileSync(candidate, ['--version'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return { command: candidate, version: version.split('\n')[0] };
    } catch {
      // Not this one.
    }
  }
  return undefined;
}

/** The compiler's target, such as x86_64-linux-gnu; another one than this machine's where it is a cross compiler. */
function targetOf(compiler) {
  return execFileSync(compiler, ['-dumpmachine'], { encoding: 'utf8' }).trim();
}

function compilerFlags(target, march, openmp) {
  const isX64 = target.startsWith('x86_64');
  const include = createRequire(import.meta.url)('node-api-headers').include_dir;
  const flags = [
    '-std=c++17',
    '-O3',
    '-fPIC',
    '-fvisibility=hidden',
    '-Wall',
    '-Wextra',
    '-Wno-psabi',
    '-DNAPI_VERSION=8',
  ];
  // The arithmetic is the one that is written: no sum in another order, no product and sum made one rounding (simd.h).
  flags.push('-ffp-contract=off', '-fno-math-errno', `-I${include}`);
  if (march === 'scalar') flags.push('-DSLUICE_SCALAR');
  else if (march === 'native' && !isX64) flags.push('-mcpu=native');
  else flags.push(`-march=${march}`);
  // What GCC knows of some CPUs (Zen 2 and 3) makes small products in registers half as fast.
  if (isX64) flags.push('-mtune=generic');
  // Without this GCC splits the widest vectors in two on CPUs that may lower their clock for them.
  if (isX64 && !/^(scalar|x86-64(-v[23])?)$/.test(march)) flags.push('-mprefer-vector-width=512');
  if (openmp) flags.push('-fopenmp');
  return flags;
}

function linkFlags(openmp) {
  const flags = process.platform === 'darwin' ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared'];
  return openmp ? [...flags, '-fopenmp'] : flags;
}

async function hasOpenMp(compiler) {
  const probe = join(output, `openmp-probe-${process.pid}.cc`);
  writeFileSync(probe, '#include <omp.h>\nint probe() { return omp_get_max_threads(); }\n');
  try {
    await run(compiler, ['-fopenmp', '-shared', '-fPIC', probe, '-o', `${probe}.so`]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(probe, { force: true });
    rmSync(`${probe}.so`, { force: true });
  }
}

/** Describes the machine that `-march=native` stands for, so that a build carried to another machine is made anew. */
function machineIdentity() {
  if (process.platform !== 'linux') return process.arch;
  const cpuinfo = readFileSync('/proc/cpuinfo', 'utf8');
  return /^(flags|Features)\s*:.*$/m.exec(cpuinfo)?.[0] ?? process.arch;
}

async function compile(compiler, march, objects) {
  const openmp = await hasOpenMp(compiler.command);
  const flags = compilerFlags(targetOf(compiler.command), march, openmp);
  const files = readdirSync(sources)
    .filter((name) => name.endsWith('.cc'))
    .sort();
  const queue = [...files];
  const worker = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      await run(compiler.command, [...flags, '-c', join(sources, file), '-o', join(objects, `${file}.o`)], {
        maxBuffer: 1 << 26,
      });
    }
  };
  await Promise.all(Array.from({ length: Math.min(files.length, availableParallelism()) }, worker));
  const temporary = join(output, `sluice-${process.pid}.node`);
  await run(compiler.command, [
    ...files.map((f) => join(objects, `${f}.o`)),
    ...linkFlags(openmp),
    '-o',
    temporary,
  ]);
  renameSync(temporary, addon);
  return openmp;
}

function sourceHash(compiler, march) {
  const hash = createHash('sha256').update(
    JSON.stringify([compiler, march, process.arch, machineIdentity()]),
  );
  hash.update(readFileSync(fileURLToPath(import.meta.url)));
  for (const name of readdirSync(sources).sort()) hash.update(name).update(readFileSync(join(sources, name)));
  return hash.digest('hex');
}

function previousBuild() {
  try {
    return JSON.parse(readFileSync(infoFile, 'utf8'));
  } catch {
    return undefined;
  }
}

function giveUp(reason) {
  writeFileSync(infoFile, `${JSON.stringify({ built: false, reason }, null, 2)}\n`);
  rmSync(addon, { force: true });
  console.error(`The C++ core was not built: ${reason}`);
  console.error(
    `Sluice will run on the plain (much slower) CPU backend. Install a C++17 compiler and run: node ${fileURLToPath(import.meta.url)}`,
  );
  process.exitCode = strict ? 1 : 0;
}

async function main() {
  mkdirSync(output, { recursive: true });
  const march = process.env.SLUICE_MARCH ?? 'native';
  const compiler = findCompiler();
  if (!compiler) return giveUp('no C++ compiler was found (tried CXX, c++, g++, clang++).');
  const hash = sourceHash(compiler, march);
  if (!force && existsSync(addon) && previousBuild()?.hash === hash) return;

  const objects = join(output, `objects-${process.pid}`);
  mkdirSync(objects, { recursive: true });
  const started = performance.now();
  try {
    const openmp = await compile(compiler, march, objects);
    writeFileSync(
      infoFile,
      `${JSON.stringify({ built: true, compiler: compiler.version, march, openmp, hash }, null, 2)}\n`,
    );
    console.error(
      `Built the C++ core for ${march} with ${compiler.version} in ${((performance.now() - started) / 1000).toFixed(1)} s.`,
    );
  } catch (error) {
    giveUp(`${compiler.command} failed:\n${error.stderr ?? error.message}`);
  } finally {
    rmSync(objects, { recursive: true, force: true });
  }
}

await main();
