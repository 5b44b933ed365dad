import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { Emulator } from '@sluice/engine/cuda';
import test from 'ava';
import { ncclRequirement, nvrtcRequirement } from '../../launcher/src/backends/cudaWheel.ts';
import { divided, listGpus, parseGpus } from '../../launcher/src/backends/gpus.ts';
import { npmFailure } from '../../launcher/src/backends/install.ts';
import { npmInstallCall } from '../../launcher/src/backends/npmPackages.ts';
import { pipInstallCall } from '../../launcher/src/backends/pip.ts';
import { runProgram } from '../../launcher/src/backends/runProgram.ts';
import { npmUnfit } from '../../launcher/src/backends/tensorflowSource.ts';
import {
  compileCall,
  cudaRequirements,
  libraryCache,
  wheelAbsence,
  wheelRequirement,
} from '../../launcher/src/backends/tensorflowWheel.ts';
import {
  devicesForWorkers,
  hostDevices,
  planDevices,
  visibleDevices,
} from '../../launcher/src/coordinator/devices.ts';
import { backendFinding } from '../../launcher/src/doctor/backends.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const linux = { gpu: false, platform: 'linux', arch: 'x64' } as const;

test('the ordinary package serves x64 machines, but no GPU newer than its CUDA', (t) => {
  const machine = { ...linux, computeCapabilities: [] };
  t.is(npmUnfit(machine), undefined);
  t.regex(npmUnfit({ ...machine, arch: 'arm64' })!, /not for arm64/);
  t.is(npmUnfit({ ...machine, gpu: true, computeCapabilities: [7.5, 8.6] }), undefined);
  t.regex(npmUnfit({ ...machine, gpu: true, computeCapabilities: [8, 9] })!, /compute capability 9/);
  t.regex(npmUnfit({ ...machine, gpu: true, platform: 'darwin' })!, /macOS/);
});

test('wheels: the slim one for CPUs where there is one, the whole one otherwise', (t) => {
  t.regex(wheelRequirement(linux), /^tensorflow-cpu==\d/);
  t.regex(wheelRequirement({ ...linux, gpu: true }), /^tensorflow==\d/);
  t.regex(wheelRequirement({ ...linux, arch: 'arm64' }), /^tensorflow==\d/);
  t.is(wheelAbsence(linux), undefined);
  t.is(wheelAbsence({ ...linux, platform: 'darwin', arch: 'arm64' }), undefined);
  t.regex(wheelAbsence({ ...linux, platform: 'win32' })!, /win32 on x64/);
  t.regex(wheelAbsence({ gpu: true, platform: 'darwin', arch: 'arm64' })!, /no GPU on darwin/);
});

test('pip unpacks the wheel of the machine for whatever Python there is, and runs nothing of it', (t) => {
  const { command, args } = pipInstallCall(linux, ['tensorflow-cpu==9.9'], '/cache/here');
  t.is(command, process.env.PYTHON ?? 'python3');
  for (const flag of ['--no-deps', '--only-binary=:all:', '--no-compile']) t.true(args.includes(flag), flag);
  t.is(args[args.indexOf('--target') + 1], '/cache/here');
  t.true(args.includes('manylinux_2_17_x86_64'));
  t.is(args.at(-1), 'tensorflow-cpu==9.9');
  t.false(pipInstallCall({ ...linux, arch: 'arm64' }, [], '/x').args.some((word) => word.endsWith('x86_64')));
});

test('the cache of a user keeps CPU and GPU libraries apart', (t) => {
  t.not(libraryCache(linux), libraryCache({ ...linux, gpu: true }));
  t.true(libraryCache(linux).includes(join('sluice', 'backends')));
});

test('NVIDIA’s libraries are those that the metadata asks for with the GPU extra', (t) => {
  const metadata = [
    'Name: tensorflow',
    'Requires-Dist: numpy<2.1.0,>=1.26.0',
    "Requires-Dist: nvidia-cublas-cu12 ==12.5.3.2 ; extra == 'and-cuda'",
    'Requires-Dist: nvidia-nccl-cu12==2.21.5; extra == "and-cuda"',
    "Requires-Dist: nvidia-cudnn-cu12 (==9.3.0.75) ; extra == 'and-cuda'",
    'Requires-Dist: nvidia-other-cu12==1.0; extra == "else"',
  ].join('\n');
  t.deepEqual(cudaRequirements(metadata), [
    'nvidia-cublas-cu12==12.5.3.2',
    'nvidia-nccl-cu12==2.21.5',
    'nvidia-cudnn-cu12==9.3.0.75',
  ]);
});

test('the compiler of CUDA kernels is one whose machine code the driver takes, and NCCL is of the same CUDA', (t) => {
  t.regex(nvrtcRequirement(undefined), /^nvidia-cuda-nvrtc==13/);
  t.regex(nvrtcRequirement(13_010), /^nvidia-cuda-nvrtc==13/);
  t.regex(nvrtcRequirement(12_080), /^nvidia-cuda-nvrtc-cu12==12/);
  t.regex(ncclRequirement(13_010), /^nvidia-nccl-cu13==2/);
  t.regex(ncclRequirement(12_080), /^nvidia-nccl-cu12==2/);
  const { code, message } = t.throws(() => nvrtcRequirement(11_080), { instanceOf: SluiceError });
  t.is(code, 'SLUICE_E_BACKEND_INSTALL');
  t.regex(message, /CUDA 11.*driver 525/);
});

test('one compiler call makes the addon against the libraries of the wheel', (t) => {
  const libraries = mkdtempSync(join(tmpdir(), 'sluice-backends-'));
  try {
    mkdirSync(join(libraries, 'nvidia', 'cublas', 'lib'), { recursive: true });
    const { command, args } = compileCall('/package', libraries, 'linux');
    t.is(command, process.env.CXX ?? 'c++');
    t.true(args.includes('-shared'));
    t.true(args.includes(`-I${join(libraries, 'tensorflow', 'include')}`));
    t.true(args.includes(join(libraries, 'tensorflow', 'libtensorflow_cc.so.2')));
    t.true(args.includes('/package/binding/tfjs_binding.cc'));
    t.true(args.includes(`-Wl,-rpath,${join(libraries, 'tensorflow')}`));
    t.true(args.includes(`-Wl,-rpath,${join(libraries, 'nvidia', 'cublas', 'lib')}`));
    t.is(args[args.indexOf('-o') + 1], '/package/lib/napi-v8/tfjs_binding.node');
    const mac = compileCall('/package', libraries, 'darwin').args;
    t.true(mac.includes('-bundle') && !mac.includes('-shared'));
    t.true(mac.includes(join(libraries, 'tensorflow', 'libtensorflow_framework.2.dylib')));
  } finally {
    rmSync(libraries, { recursive: true });
  }
});

test('npm installs exact versions into the given folder, with scripts only where they are wanted', (t) => {
  const packages = [{ name: 'a', version: '1.2.3' }];
  const { args } = npmInstallCall({ directory: '/x', packages, scripts: false });
  t.is(args[args.indexOf('--prefix') + 1], '/x');
  t.true(args.includes('--ignore-scripts'));
  t.is(args.at(-1), 'a@1.2.3');
  t.false(npmInstallCall({ directory: '/x', packages, scripts: true }).args.includes('--ignore-scripts'));
});

test('a failed program is a coded error with what it said last', async (t) => {
  const seen: string[] = [];
  const script = 'console.log("first"); console.error("no such host"); process.exit(3)';
  const call = { command: process.execPath, args: ['-e', script] };
  const error = await t.throwsAsync(
    runProgram('Fetching', call, (line) => seen.push(line)),
    { instanceOf: SluiceError },
  );
  t.is(error.code, 'SLUICE_E_BACKEND_INSTALL');
  t.regex(error.message, /^Fetching failed: .* ended with 3[\s\S]*no such host/);
  t.deepEqual(seen.sort(), ['first', 'no such host']);
});

test('where npm fails another way is tried, told with the line that says most; where it was interrupted none is', (t) => {
  const said = 'Installing x failed: npm ended with 1\n  npm error code 1\n  npm error Error: no such host';
  t.is(npmFailure(new SluiceError('SLUICE_E_BACKEND_INSTALL', said)), 'Error: no such host');
  const interrupted = new SluiceError('SLUICE_E_INTERRUPTED', 'Interrupted by a signal.');
  t.is(
    t.throws(() => npmFailure(interrupted)),
    interrupted,
  );
});

test('a program that is not there is a coded error too', async (t) => {
  const call = { command: '/nonexistent/python3', args: [] };
  const error = await t.throwsAsync(
    runProgram('Fetching', call, () => {}),
    { instanceOf: SluiceError },
  );
  t.regex(error.message, /nonexistent\/python3 .*ENOENT/);
});

/** What NVIDIA's tool is asked for, of two GPUs. */
const LISTED = `NVIDIA H100 80GB HBM3, GPU-11111111-2222-3333-4444-555555555555, 81559, 9.0
NVIDIA A100-SXM4-40GB, GPU-66666666-7777-8888-9999-000000000000, 40960, 8.0
`;

test('GPUs are read from what NVIDIA’s tool lists', (t) => {
  const gpus = parseGpus(LISTED);
  t.deepEqual(gpus[0], {
    name: 'NVIDIA H100 80GB HBM3',
    uuid: 'GPU-11111111-2222-3333-4444-555555555555',
    memoryBytes: 81_559 * 2 ** 20,
    computeCapability: 9,
  });
  t.is(gpus.length, 2);
  t.deepEqual(parseGpus('No devices were found'), []);
});

test('GPUs are counted by the CUDA driver, without NVIDIA’s tool', (t) => {
  const { library } = new Emulator({ watch: false }).device.driver;
  const [gpu, ...others] = listGpus({ library });
  t.deepEqual(others, []);
  t.like(gpu, { name: 'emulated', memoryBytes: 16 * 2 ** 30, computeCapability: 9 });
  t.regex(gpu!.uuid, /^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
});

const onUnix = process.platform === 'win32' ? test.serial.skip : test.serial;

onUnix('where the driver is not there, or hangs, NVIDIA’s tool is asked', (t) => {
  const folder = temporaryDirectory(t);
  writeFileSync(join(folder, 'nvidia-smi'), `#!/bin/sh\nprintf '%s' '${LISTED}'\n`, { mode: 0o755 });
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  t.teardown(() => {
    process.env.PATH = PATH;
  });
  t.is(listGpus({ library: join(folder, 'nowhere.so') }).length, 2);
  // Whoever opens it waits for somebody who writes to it.
  const hanging = join(folder, 'hanging.so');
  execFileSync('mkfifo', [hanging]);
  t.is(listGpus({ library: hanging, limitMs: 1000 }).length, 2);
});

const someGpus = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ uuid: `GPU-${i % 8}abc-${i}` }));

test('each worker gets a GPU of its own, out of those that are visible', (t) => {
  t.deepEqual(visibleDevices(undefined, someGpus(3)), ['0', '1', '2']);
  t.deepEqual(visibleDevices('4, 6', someGpus(8)), ['4', '6']);
  t.deepEqual(visibleDevices('', someGpus(8)), []);
  t.deepEqual(planDevices([{ name: '4' }, { name: '6' }, { name: '7' }], 2), [
    { CUDA_VISIBLE_DEVICES: '4' },
    { CUDA_VISIBLE_DEVICES: '6' },
  ]);
});

test('the first invalid name of CUDA_VISIBLE_DEVICES ends what is visible', (t) => {
  const cases: [string, string[]][] = [
    ['1,9,0', ['1']],
    ['1,-1,0', ['1']],
    ['1,,0', ['1']],
    ['0x1', []],
    ['NoDevFiles', []],
    ['all', []],
    ['1,1,2', ['1']],
    ['1,01', ['1']],
    ['GPU-1abc,GPU-f', ['GPU-1abc']],
    ['GPU-1abc,GPU-1abc-1,GPU-2', ['GPU-1abc']],
    // Two have it.
    ['GPU-0', []],
    ['GPU-0abc-8', ['GPU-0abc-8']],
    ['GPU-1,2', ['GPU-1']],
    ['2,GPU-1', ['2']],
    // None is divided.
    ['MIG-2,MIG-3', []],
    ['GPU-1,MIG-2', ['GPU-1']],
  ];
  for (const [variable, expected] of cases) {
    t.deepEqual(visibleDevices(variable, someGpus(9)), expected, variable);
    t.deepEqual(devicesForWorkers(variable, someGpus(9)), expected, variable);
  }
});

test('where no GPU could be counted none is visible, and workers are given those that are named', (t) => {
  t.deepEqual(visibleDevices('0,1', []), []);
  t.deepEqual(visibleDevices('MIG-1', []), []);
  const given = (variable?: string) => devicesForWorkers(variable, []);
  t.deepEqual(given(), []);
  t.deepEqual(given('12,3'), ['12', '3']);
  t.deepEqual(given('GPU-1,GPU-2,3'), ['GPU-1', 'GPU-2']);
  t.deepEqual(given('GPU-1,GPU-1abc'), ['GPU-1']);
  t.deepEqual(given('0,0'), ['0']);
  t.deepEqual(given('MIG-2,MIG-3,MIG-3'), ['MIG-2', 'MIG-3']);
  t.deepEqual(given('MIG-2,MIG-GPU-1/0/0'), ['MIG-2']);
  t.deepEqual(given('MIG-GPU-1/0/0,MIG-GPU-1/1/0'), ['MIG-GPU-1/0/0', 'MIG-GPU-1/1/0']);
  for (const invalid of ['', '-1', 'all', 'NoDevFiles']) t.deepEqual(given(invalid), [], invalid);
});

/** What NVIDIA's tool lists with `-L`: the second GPU is divided. */
const DIVIDED = `GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-2222-3333-4444-555555555555)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-66666666-7777-8888-9999-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaaaaaaa-0000-5555-9999-cccccccccccc)
  MIG 1c.2g.10gb  Device  1: (UUID: MIG-bbbbbbbb-0000-5555-9999-cccccccccccc)
`;

test('where a GPU is divided, workers get its parts by name, and none by a number', (t) => {
  const gpus = divided(parseGpus(LISTED), DIVIDED);
  t.deepEqual(
    gpus.map(({ name, memoryBytes }) => [name, memoryBytes / 2 ** 30]),
    [
      ['NVIDIA H100 80GB HBM3', 81_559 / 1024],
      ['NVIDIA A100-SXM4-40GB MIG 3g.20gb', 20],
      ['NVIDIA A100-SXM4-40GB MIG 1c.2g.10gb', 10],
    ],
  );
  const [whole, first, second] = gpus.map(({ uuid }) => uuid) as [string, string, string];
  const given = (variable?: string) => devicesForWorkers(variable, gpus);
  t.deepEqual(given(), [whole, first, second]);
  t.deepEqual(given(`${second}, ${first}`), [second, first]);
  t.deepEqual(given('GPU-1'), ['GPU-1']);
  t.deepEqual(given(''), []);
  for (const [variable, unknown] of [
    ['0', '0'],
    [`${first},1`, '1'],
    [`${first},${first}`, first],
    [`${first},MIG-dddddddd-0000-5555-9999-cccccccccccc`, 'MIG-dddddddd-0000-5555-9999-cccccccccccc'],
    // The beginning of one, the GPU that is divided, and a name that older drivers have.
    ['MIG-aaaa', 'MIG-aaaa'],
    ['GPU-6', 'GPU-6'],
    [`MIG-GPU-66666666-7777-8888-9999-000000000000/1/0`, 'MIG-GPU-66666666-7777-8888-9999-000000000000/1/0'],
  ] as const) {
    const error = t.throws(() => given(variable), { instanceOf: SluiceError });
    t.is(error.code, 'SLUICE_E_BACKEND_DEVICES');
    t.like(error.details, { variable, unknown });
    t.regex(error.message, /divided \(MIG\), and .* names none of GPU-1111.*, MIG-aaaa.*nvidia-smi -L/);
  }
  // The driver shows one part alone: there may be others.
  const known = [{ uuid: first }];
  t.deepEqual(devicesForWorkers(`${first},${second}`, known), [first, second]);
  t.deepEqual(devicesForWorkers(undefined, known), [first]);
  t.throws(() => devicesForWorkers('0', known), { instanceOf: SluiceError });
});

test('each GPU that workers are given has its memory, where it is known', (t) => {
  const gpus = [...someGpus(3)].map((gpu, index) => ({ ...gpu, memoryBytes: index + 1 }));
  t.deepEqual(hostDevices('2,0', gpus), [
    { name: '2', memoryBytes: 3 },
    { name: '0', memoryBytes: 1 },
  ]);
  t.deepEqual(hostDevices('GPU-1', gpus), [{ name: 'GPU-1', memoryBytes: 2 }]);
  t.deepEqual(hostDevices('5,7', []), [{ name: '5' }, { name: '7' }]);
  const [first, second] = ['MIG-aaaaaaaa-0000', 'MIG-bbbbbbbb-0000'];
  const part = { uuid: first, memoryBytes: 7 };
  t.deepEqual(hostDevices(`${first},${second}`, [part]), [{ name: first, memoryBytes: 7 }, { name: second }]);
  t.deepEqual(hostDevices(undefined, [part]), [{ name: first, memoryBytes: 7 }]);
});

test('workers share a GPU only where that is asked for', (t) => {
  t.deepEqual(planDevices([{ name: '3' }], 2, true), [
    { CUDA_VISIBLE_DEVICES: '3' },
    { CUDA_VISIBLE_DEVICES: '3' },
  ]);
  t.throws(() => planDevices([], 2, true), { instanceOf: SluiceError });
});

test('more workers than GPUs are refused, with both numbers', (t) => {
  const error = t.throws(() => planDevices([{ name: '0' }], 2), { instanceOf: SluiceError });
  t.is(error.code, 'SLUICE_E_BACKEND_DEVICES');
  t.regex(error.message, /2 workers .*there is 1 GPU/);
});

test('doctor: what was never installed is no fault, what does not run is', (t) => {
  const state = { name: 'wasm', purpose: '', installed: false, runs: false, reason: 'not there' } as const;
  const absent = backendFinding(state);
  t.true(absent.ok);
  t.is(absent.mend, undefined);
  t.regex(absent.found, /not there/);
  const broken = backendFinding({ ...state, installed: true, reason: 'it crashed' });
  t.false(broken.ok);
  t.regex(broken.mend!, /sluice backend install wasm/);
  const mistaken = backendFinding({ ...state, reason: 'X is "y", and may be unset', isMistaken: true });
  t.false(mistaken.ok);
  t.is(mistaken.mend, 'X is "y", and may be unset');
  t.is(backendFinding({ ...state, installed: true, runs: true, reason: 'a remark' }).found, 'runs: a remark');
});
