import { constants } from 'node:buffer';
import { planMemory } from '@sluice/train';
import test from 'ava';
import { checkMemory } from '../../launcher/src/coordinator/memory.ts';
import { smallConfig } from './support/config.ts';

const config = smallConfig();
const { parameters, total } = planMemory(config);
const host = (memoryBytes?: number) => [
  { name: 'h1', slots: undefined, ...(memoryBytes && { memoryBytes }) },
];

test('what fits, or what nobody knows the memory of, is nothing to talk about', (t) => {
  t.deepEqual(checkMemory(config, host(2 * total)), []);
  t.deepEqual(checkMemory(config, host()), []);
  t.deepEqual(checkMemory(config, []), []);
  t.deepEqual(checkMemory({ ...config, backend: 'cuda' }, host(1)), []);
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
    { name: 'h1', slots: 1, memoryBytes: 2 * total },
    ...host(total / 2).map((one) => ({ ...one, name: 'h2' })),
  ];
  const lines = checkMemory(config, hosts);
  t.is(lines.length, 1);
  t.regex(lines[0]!, /^1 worker on h2 /);
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
