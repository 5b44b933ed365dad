/** The cases by which a card is held against the emulator. */

import { selectBackend } from '@sluice/engine';
import {
  BorrowedMemory,
  CHECKS,
  checksFor,
  cudaBackend,
  generatedSources,
  joinGolden,
  type KernelSource,
  kernelFiles,
  kernelSource,
  matching,
  rateCases,
  readGolden,
  runCheck,
  signatures,
  TENSOR_CORES,
} from '@sluice/engine/cuda';
import test from 'ava';
import { emulator } from '../support/cuda.ts';

test.before(() => {
  process.env.SLUICE_CUDA = 'emulated';
  return selectBackend('cuda');
});

/** Calls `f` while kernels do nothing. @returns the kernels that were asked for */
function kernelsOf(f: () => void): Set<string> {
  const { device } = cudaBackend();
  const asked = new Set<string>();
  const kernelOf = device.kernelOf.bind(device);
  device.kernelOf = (source: KernelSource, name: string) => {
    asked.add(name);
    return kernelOf(source, name);
  };
  emulator.set({ runsKernels: false });
  try {
    f();
    return asked;
  } finally {
    emulator.set({});
    device.kernelOf = kernelOf;
  }
}

test.serial('every kernel has a case, and every case has its bits', (t) => {
  const { device } = cudaBackend();
  const launched = kernelsOf(() => {
    for (const make of Object.values(CHECKS)) {
      const memory = new BorrowedMemory(device);
      make(memory).run();
      memory.giveBack();
    }
  });
  const sources = [...kernelFiles().map(kernelSource), ...generatedSources];
  const all = sources.flatMap((source) => [...signatures(source).keys()]);
  // What measures a card, and says nothing of right and wrong.
  const others = ['peakProducts', 'peakProductsHopper'];
  t.deepEqual([...launched, ...others].sort(), all.sort());
  t.deepEqual(Object.keys(readGolden()), Object.keys(CHECKS), 'npm run gpu:golden');
});

/** Some of each kind: all of them take half a minute. */
const QUICK = [
  'matmul, small tile',
  'matmulTransposed, large tile',
  'matmulPlain, Hopper large tile',
  'experts gradient, small tile',
  'experts gradient, Hopper small tile',
  'attention, head 32, gate elementwise',
  'Hopper attention, head 64, gate headwise',
  'attention heads backward, head 64, gate headwise',
  'RMS norm, bf16',
  'delta rule in chunks, head 24 backward, decays of channels',
  'cross-entropy, capped',
  'embedding backward, f32',
  'headwise gate backward',
  'combine backward',
  'AdamW',
  'squared norms',
  'sum of 5',
];

test.serial('the golden bits are those of now, and near to double precision', (t) => {
  const { device } = cudaBackend();
  const golden = readGolden();
  for (const kind of TENSOR_CORES) {
    emulator.set({ arithmetic: kind });
    for (const name of QUICK) {
      const checked = runCheck(device, name);
      t.true(matching(checked, golden).includes(kind), `${name} as ${kind}: npm run gpu:golden`);
      for (const [output, error] of Object.entries(checked.errors))
        t.true(error < 1, `${name}, ${output}: ${error}`);
    }
  }
  emulator.set({});
});

test('who has Hopper’s instructions runs the cases of all kernels, and they have the bits of the others', (t) => {
  t.deepEqual(checksFor({ isHopper: true }), Object.keys(CHECKS));
  const others = checksFor({ isHopper: false });
  t.true(others.includes('matmul, small tile') && !others.some((name) => name.includes('Hopper')));
  const golden = readGolden();
  for (const name of Object.keys(CHECKS).filter((each) => each.includes('Hopper ')))
    t.deepEqual(golden[name], golden[name.replace('Hopper ', '')], name);
});

test('other bits are found, and so is the kind of tensor cores', (t) => {
  const of = (y: string, dx: string) => [{ name: 'case', hashes: { y, dx }, errors: {} }];
  const golden = joinGolden({ ampere: of('a', 'c'), hopper: of('b', 'c') });
  const match = (y: string, dx: string, name = 'case') => matching({ name, hashes: { y, dx } }, golden);
  t.deepEqual(match('a', 'c'), ['ampere']);
  t.deepEqual(match('b', 'c'), ['hopper']);
  t.deepEqual(match('b', 'd'), []);
  t.deepEqual(match('b', 'c', 'another'), []);
});

test('rates of both scales are of the same work, by names of their own', (t) => {
  const kinds = (scale: 'full' | 'tiny') =>
    Object.keys(rateCases(scale)).map((name) => name.replace(/\d+/g, '#'));
  const same = (names: string[]) => [...new Set(names)].sort();
  t.deepEqual(same(kinds('tiny')), same(kinds('full')));
});
