import { constants } from 'node:buffer';
import { planHostMemory, planMemory, type RunConfig } from '@sluice/train';
import test from 'ava';
import { checkMemory } from '../../launcher/src/coordinator/memory.ts';
import { smallConfig } from './support/config.ts';

const config = smallConfig();
const { parameters, total } = planMemory(config);
const host = (memoryBytes?: number) => [
  { name: 'h1', slots: undefined, devices: [], ...(memoryBytes && { memoryBytes }) },
];

test('what fits, or what nobody knows the memory of, is nothing to talk about', (t) => {
  t.deepEqual(checkMemory(config, host(2 * total)), []);
  t.deepEqual(checkMemory(config, host()), []);
  t.deepEqual(checkMemory(config, []), []);
});

test('what may not fit is told, with both figures, and what cannot by far is refused', (t) => {
  const [line, ...others] = checkMemory(config, host(2 * total - 1));
  t.regex(line!, /^2 workers on h1 will take about \S+ \wiB, and there is \S+ \wiB of memory/);
  t.deepEqual(others, []);
  t.is(checkMemory(config, host(parameters)).length, 1);
  const error = t.throws(() => checkMemory(config, host(parameters - 1)), {
    code: 'SLUICE_E_MODEL_TOO_LARGE',
  });
  t.regex(error.message, /^2 workers on h1 would hold \S+ \wiB of weights, and there is \S+ \wiB of memory/);
});

test('each host counts for the workers that it gets', (t) => {
  const hosts = [
    { name: 'h1', slots: 1, devices: [], memoryBytes: 2 * total },
    ...host(total / 2).map((one) => ({ ...one, name: 'h2' })),
  ];
  const lines = checkMemory(config, hosts);
  t.is(lines.length, 1);
  t.regex(lines[0]!, /^1 worker on h2 /);
});

const onGpus: RunConfig = { ...config, backend: 'cuda' };
const gpu = planMemory(onGpus, Number.POSITIVE_INFINITY, 2);
const gpus = (...memory: (number | undefined)[]) => [
  {
    ...{ name: 'h1', slots: undefined },
    devices: memory.map((memoryBytes, index) => ({ name: String(index), memoryBytes })),
  },
];

test('a GPU that may be too small is told before there is a worker, and one that is too small is refused', (t) => {
  t.deepEqual(checkMemory(onGpus, gpus(2 * gpu.total, 2 * gpu.total)), []);
  t.deepEqual(checkMemory(onGpus, gpus(undefined, undefined)), []);
  // Beyond the two that are used.
  t.deepEqual(checkMemory(onGpus, gpus(2 * gpu.total, undefined, 1)), []);
  const held = gpu.parameters + gpu.optimizer;
  const [line, ...others] = checkMemory(onGpus, gpus(undefined, held + 1));
  t.regex(
    line!,
    /^a worker on h1 will take about \S+ \wiB, and its GPU has \S+ \wiB of memory; `sluice plan`/,
  );
  t.deepEqual(others, []);
  const error = t.throws(() => checkMemory(onGpus, gpus(2 * gpu.total, held - 1)), {
    code: 'SLUICE_E_MODEL_TOO_LARGE',
  });
  t.regex(
    error.message,
    /^A worker on h1 would hold \S+ \wiB of weights and moments, and its GPU has \S+ \wiB of memory/,
  );
});

test('what workers on GPUs take of their host is told too', (t) => {
  const total = planHostMemory(onGpus)!.total;
  t.deepEqual(checkMemory(onGpus, host(2 * total)), []);
  const lines = checkMemory(onGpus, host(2 * total - 1));
  t.is(lines.length, 1);
  t.regex(lines[0]!, /^2 workers on h1 will take about \S+ \wiB, and there is/);
});

test('an emulated GPU has its host’s memory', (t) => {
  process.env.SLUICE_CUDA = 'emulated';
  t.teardown(() => delete process.env.SLUICE_CUDA);
  t.deepEqual(checkMemory(onGpus, gpus(1, 1)), []);
});

test('sizes that a plan takes and no array does are refused before there is a worker, whatever the memory', (t) => {
  for (const model of [
    { hiddenSize: 1e12 },
    { vocabularySize: 1e12 },
    { vocabularySize: constants.MAX_LENGTH },
  ])
    t.throws(() => checkMemory(smallConfig({ model }), host(1e30)), {
      code: 'SLUICE_E_MODEL_TOO_LARGE',
      message: /would hold \S+ \w weights in one array, .* have \S+ \w elements at most/,
    });
});
