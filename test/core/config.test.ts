import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  canonicalJson,
  diffConfigs,
  hashConfig,
  jsonSchema,
  loadYamlConfig,
  nearest,
  parseConfig,
  positiveFloat32,
  resolvePath,
  SluiceError,
  sluiceRoot,
} from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';
import { z } from 'zod';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const Model = z.strictObject({
  hiddenSize: z.int().min(1),
  numLayers: z.int().min(1).default(2),
  gate: z
    .strictObject({ granularity: z.enum(['none', 'elementwise', 'headwise']).default('none') })
    .prefault({}),
  experts: z.strictObject({ count: z.int().min(2), topK: z.int().min(1) }).optional(),
});

const Config = z.strictObject({
  name: z.string().optional(),
  model: Model,
  data: z.strictObject({ recipe: z.string().meta({ format: 'path' }) }).optional(),
  optimizer: z.strictObject({
    learningRate: z.number().positive(),
    clipNorm: z.number().min(0).lt(10).default(1),
  }),
  source: z
    .discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('text'), folder: z.string() }),
      z.strictObject({ kind: z.literal('jsonl'), field: z.string() }),
    ])
    .optional(),
  sizes: z.array(z.int().multipleOf(2)).default([]),
});

/** Writes files into a directory that goes away after the test, and returns the path of the first. */
function write(t: { teardown(fn: () => void): void }, files: Record<string, string>): string {
  const directory = temporaryDirectory(t);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  return join(directory, Object.keys(files)[0]!);
}

function failure(load: () => unknown): SluiceError {
  try {
    load();
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  throw new Error('it should have failed');
}

const GOOD = 'model:\n  hiddenSize: 8\noptimizer:\n  learningRate: 1e-3\n';

test('a file that is not beside the one that names it is the one that comes along by that name', (t) => {
  const anything = z.record(z.string(), z.unknown());
  const shipped = loadYamlConfig(join(sluiceRoot, 'configs/quickstart.yaml'), anything);
  const path = write(t, { 'a.yaml': 'extends: configs/quickstart.yaml\nname: mine\n' });
  t.deepEqual(loadYamlConfig(path, anything), { ...shipped, name: 'mine' });
  const own = write(t, {
    'a.yaml': 'extends: configs/quickstart.yaml\n',
    'configs/quickstart.yaml': 'seed: 5\n',
  });
  t.deepEqual(loadYamlConfig(own, anything), { seed: 5 });
  const none = write(t, { 'a.yaml': 'extends: configs/none.yaml\n' });
  t.throws(() => loadYamlConfig(none, anything), {
    message: new RegExp(`${dirname(none)}/configs/none.yaml`),
  });
});

test('a good file gives the checked value with defaults, deeply frozen', (t) => {
  const config = loadYamlConfig(write(t, { 'a.yaml': GOOD }), Config);
  t.deepEqual(config, {
    model: { hiddenSize: 8, numLayers: 2, gate: { granularity: 'none' } },
    optimizer: { learningRate: 0.001, clipNorm: 1 },
    sizes: [],
  });
  t.throws(() => Object.assign(config.model.gate, { granularity: 'headwise' }), { instanceOf: TypeError });
  t.throws(() => config.sizes.push(2), { instanceOf: TypeError });
});

test('every mistake is told at once, each with file, line, column, key, value and the nearest valid key', (t) => {
  const path = write(t, {
    'a.yaml': [
      'model:',
      '  hiddenSze: 8',
      '  numLayers: two',
      '  gate: { granularity: elementwize }',
      'optimizer:',
      '  learningRate: -1',
      '  clipNorm: 10',
      'sizes: [2, 3]',
      'source:',
      '  kind: jsnl',
    ].join('\n'),
  });
  const error = failure(() => loadYamlConfig(path, Config));
  t.is(error.code, 'SLUICE_E_CONFIG_INVALID');
  t.deepEqual(error.message.replaceAll(`${path}:`, '').split('\n'), [
    '1:1  model.hiddenSize: missing; expected a whole number',
    '2:3  model.hiddenSze: unknown key (value 8); did you mean model.hiddenSize?',
    '3:14  model.numLayers: expected a whole number, got "two"',
    '4:24  model.gate.granularity: expected one of "none", "elementwise", "headwise", got "elementwize"; did you mean elementwise?',
    '6:17  optimizer.learningRate: must be greater than 0, got -1',
    '7:13  optimizer.clipNorm: must be less than 10, got 10',
    '8:12  sizes.1: must be a multiple of 2, got 3',
    '10:9  source.kind: expected one of "text", "jsonl", got "jsnl"; did you mean jsonl?',
  ]);
  const issues = error.details.issues as { line: number; path: string }[];
  t.deepEqual(issues[1], {
    file: path,
    line: 2,
    column: 3,
    path: 'model.hiddenSze',
    message: 'unknown key (value 8)',
    suggestion: 'model.hiddenSize',
  } as never);
});

test('broken YAML is told with its place', (t) => {
  for (const [text, place] of [
    ['model: {a: 1\nx: [', '2:'],
    ['a: 1\na: 2\n', '2:1'],
    ['a: *nothing\n', '1:4'],
    ['a: &x [1, *x]\n', '1:'],
    ['a: !strange 1\n', '1:4'],
    ['a: 1\n---\nb: 2\n', '2:1  a second document begins here'],
    ['? [a, b]\n: 1\n', '1:3'],
  ] as const) {
    const path = write(t, { 'a.yaml': text });
    const error = failure(() => loadYamlConfig(path, z.looseObject({})));
    t.is(error.code, 'SLUICE_E_CONFIG_SYNTAX', text);
    t.true(error.message.startsWith(`${path}:${place}`), error.message);
  }
});

test('aliases repeat a value, and a small file cannot stand for a huge one', (t) => {
  const path = write(t, { 'a.yaml': 'a: &x { p: 1 }\nb: *x\n' });
  t.deepEqual(loadYamlConfig(path, z.looseObject({})), { a: { p: 1 }, b: { p: 1 } });
  const levels = Array.from(
    { length: 12 },
    (_, i) => `l${i + 1}: &l${i + 1} [${Array(9).fill(`*l${i}`).join(', ')}]`,
  );
  const bomb = write(t, { 'b.yaml': `l0: &l0 [x]\n${levels.join('\n')}\n` });
  t.is(failure(() => loadYamlConfig(bomb, z.looseObject({}))).code, 'SLUICE_E_CONFIG_SYNTAX');
});

test('an empty file, a file of the wrong kind, a key named __proto__ and a missing file are refused', (t) => {
  const empty = write(t, { 'a.yaml': '# nothing\n' });
  t.regex(failure(() => loadYamlConfig(empty, Config)).message, /model: missing; expected a section of keys/);
  const list = write(t, { 'a.yaml': '- 1\n' });
  t.regex(
    failure(() => loadYamlConfig(list, Config)).message,
    /1:1 {2}expected a section of keys, got \[1\]/,
  );
  const proto = write(t, { 'a.yaml': `${GOOD}__proto__: { x: 1 }\n` });
  t.regex(failure(() => loadYamlConfig(proto, Config)).message, /5:1 {2}__proto__: unknown key/);
  const missing = failure(() => loadYamlConfig(join(dirname(empty), 'no.yaml'), Config));
  t.is(missing.code, 'SLUICE_E_FILE_MISSING');
  t.true(missing.message.includes('no.yaml'));
  t.is(failure(() => loadYamlConfig(dirname(empty), Config)).code, 'SLUICE_E_FILE_MISSING');
});

test('overrides are YAML values that win over the file, in order, and may make sections', (t) => {
  const path = write(t, { 'a.yaml': `${GOOD}name: x\n` });
  const config = loadYamlConfig(path, Config, {
    overrides: [
      'optimizer.learningRate=2e-3',
      'optimizer.learningRate=4e-3',
      'model.gate.granularity=headwise',
      'model.experts={count: 4, topK: 2}',
      'sizes=[2, 4]',
      'name=null',
    ],
  });
  t.is(config.optimizer.learningRate, 0.004);
  t.is(config.model.gate.granularity, 'headwise');
  t.deepEqual(config.model.experts, { count: 4, topK: 2 });
  t.deepEqual(config.sizes, [2, 4]);
  t.is(config.name, undefined);
  t.is(loadYamlConfig(path, Config, { overrides: ['name=a=b'] }).name, 'a=b');
});

test('an override that is malformed or names no key is refused with the nearest key, all at once', (t) => {
  const path = write(t, { 'a.yaml': GOOD });
  const overrides = [
    'optimizer.learningRat=1',
    'learningRate=1',
    'nonsense',
    '=3',
    'model.numLayers=[',
    'zzzzzz.y=1',
  ];
  const error = failure(() => loadYamlConfig(path, Config, { overrides }));
  t.is(error.code, 'SLUICE_E_CONFIG_OVERRIDE');
  const lines = error.message.split('\n');
  t.is(
    lines[0],
    '--set optimizer.learningRat=1  unknown key optimizer.learningRat; did you mean optimizer.learningRate?',
  );
  t.is(lines[1], '--set learningRate=1  unknown key learningRate; did you mean optimizer.learningRate?');
  t.is(lines[2], '--set nonsense  is not of the form section.key=value');
  t.is(lines[3], '--set =3  is not of the form section.key=value');
  t.true(lines[4]!.startsWith('--set model.numLayers=[  '));
  t.true(lines.at(-1)!.startsWith('--set zzzzzz.y=1  unknown key zzzzzz'));
});

test('an unknown section in an override is no other section’s key: the known ones are listed', (t) => {
  const path = write(t, { 'a.yaml': GOOD });
  const message = (override: string) =>
    failure(() => loadYamlConfig(path, Config, { overrides: [override] })).message;
  t.regex(message('model.foo.learningRate=1'), /unknown key model\.foo; known keys: .*hiddenSize/);
  t.regex(message('gate.granularity=headwise'), /unknown key gate; did you mean model\.gate\.granularity\?/);
  t.regex(message('model.gate.foo=1'), /unknown key model\.gate\.foo; known keys: granularity/);
});

test('a short word is the key that one edit makes of it, and not one that two do', (t) => {
  t.is(nearest('foo', ['form']), undefined);
  t.is(nearest('fom', ['form']), 'form');
  t.is(nearest('lr', ['hr', 'id']), 'hr');
  t.is(nearest('gaet', ['gate']), 'gate');
});

test('a wrong value in an override is told by the text of the override', (t) => {
  const path = write(t, { 'a.yaml': GOOD });
  const error = failure(() =>
    loadYamlConfig(path, Config, {
      overrides: [
        'model.numLayers=0',
        'model.gate=x',
        'optimizer.learningRate=.nan',
        'optimizer.clipNorm=1e400',
      ],
    }),
  );
  t.is(error.code, 'SLUICE_E_CONFIG_INVALID');
  t.deepEqual(error.message.split('\n'), [
    '--set model.numLayers=0  model.numLayers: must be at least 1, got 0',
    '--set model.gate=x  model.gate: expected a section of keys, got "x"',
    '--set optimizer.learningRate=.nan  optimizer.learningRate: expected a number, got NaN',
    '--set optimizer.clipNorm=1e400  optimizer.clipNorm: expected a number, got Infinity',
  ]);
});

test('files extend and include one another, and mistakes name the file that holds them', (t) => {
  const path = write(t, {
    'configs/paper/a.yaml':
      'extends: ../base.yaml\nmodel:\n  numLayers: 4\n  experts: null\noptimizer: { learningRate: 3e-4 }\n',
    'configs/base.yaml':
      'model: models/moe.yaml\ndata: { recipe: ../data/x.yaml }\noptimizer: { learningRate: 1, clipNorm: 2 }\n',
    'configs/models/moe.yaml': 'hiddenSize: 16\nexperts: { count: 4, topK: 2 }\n',
  });
  const config = loadYamlConfig(path, Config);
  t.deepEqual(config.model, { hiddenSize: 16, numLayers: 4, gate: { granularity: 'none' } });
  t.deepEqual(config.optimizer, { learningRate: 3e-4, clipNorm: 2 });
  t.is(config.data?.recipe, '../../data/x.yaml');
  t.is(resolvePath(path, config.data!.recipe), join(dirname(path), '../../data/x.yaml'));
  const elsewhere = write(t, { 'b.yaml': `extends: ${path}\n` });
  t.deepEqual(loadYamlConfig(elsewhere, Config).model, config.model);

  const root = join(dirname(path), '..');
  writeFileSync(join(root, 'models/moe.yaml'), '\nhiddenSize: big\n');
  writeFileSync(
    join(root, 'base.yaml'),
    'model: models/moe.yaml\noptimizer: { learningRate: 1, clipNorm: 20 }\n',
  );
  const error = failure(() => loadYamlConfig(path, Config));
  t.deepEqual(error.message.split('\n').sort(), [
    `${join(root, 'base.yaml')}:2:41  optimizer.clipNorm: must be less than 10, got 20`,
    `${join(root, 'models/moe.yaml')}:2:13  model.hiddenSize: expected a whole number, got "big"`,
  ]);
});

test('an override may name a file to include, from the directory of the main file', (t) => {
  const path = write(t, { 'c/a.yaml': GOOD, 'c/m.yaml': 'hiddenSize: 32\nnumLayers: 9\n' });
  t.is(loadYamlConfig(path, Config, { overrides: ['model=m.yaml'] }).model.numLayers, 9);
});

test('a file that includes itself, and a missing included file, are told with the place that names them', (t) => {
  const path = write(t, { 'a.yaml': 'extends: b.yaml\n', 'b.yaml': `\nextends: a.yaml\n${GOOD}` });
  const cycle = failure(() => loadYamlConfig(path, Config));
  t.is(cycle.code, 'SLUICE_E_CONFIG_INVALID');
  t.regex(cycle.message, /b\.yaml:2:10 {2}the file includes itself: .*a\.yaml → .*b\.yaml → .*a\.yaml/);
  const lost = write(t, { 'a.yaml': 'model: no/model.yaml\n' });
  const missing = failure(() => loadYamlConfig(lost, Config));
  t.is(missing.code, 'SLUICE_E_FILE_MISSING');
  t.regex(missing.message, /no\/model\.yaml, named at .*a\.yaml:1:8, does not exist/);
  const wrong = write(t, { 'a.yaml': 'extends: [1]\n' });
  t.regex(
    failure(() => loadYamlConfig(wrong, Config)).message,
    /1:10 {2}extends: expected the path of a YAML file/,
  );
});

test('a saved configuration is checked with the same messages', (t) => {
  const value = { model: { hiddenSize: 1, numLayer: 3 }, optimizer: { learningRate: 1 } };
  const error = failure(() => parseConfig(value, Config, 'the saved configuration'));
  t.is(
    error.message,
    'the saved configuration  model.numLayer: unknown key (value 3); did you mean model.numLayers?',
  );
  const good = parseConfig({ model: { hiddenSize: 1 }, optimizer: { learningRate: 1 } }, Config, 'x');
  t.deepEqual(parseConfig(good, Config, 'x'), good);
});

test('a mistyped key of one or two letters is traced back to the key', (t) => {
  const keys = ['hiddenSize', 'numLayers', 'gate', 'experts'];
  fc.assert(
    fc.property(
      fc.constantFrom(...keys),
      fc.nat(),
      fc.constantFrom('drop', 'double', 'swap'),
      (key, at, how) => {
        const i = at % (key.length - 1);
        const typed = {
          drop: key.slice(0, i) + key.slice(i + 1),
          double: key.slice(0, i + 1) + key.slice(i),
          swap: key.slice(0, i) + key[i + 1]! + key[i]! + key.slice(i + 2),
        }[how];
        fc.pre(typed !== key);
        const value = { model: { hiddenSize: 1, [typed]: 1 }, optimizer: { learningRate: 1 } };
        const { message } = failure(() => parseConfig(value, Config, 'x'));
        return message.includes(`did you mean model.${key}?`);
      },
    ),
    { numRuns: 60 },
  );
  t.pass();
});

test('configurations are compared leaf by leaf', (t) => {
  const before = { a: 1, b: { c: [1, 2], d: 'x' }, gone: { e: 1 } };
  const after = { b: { d: 'y', c: [1, 2] }, a: 1, added: { f: null } };
  t.deepEqual(diffConfigs(before, after), [
    { key: 'added.f', before: undefined, after: null },
    { key: 'b.d', before: 'x', after: 'y' },
    { key: 'gone.e', before: 1, after: undefined },
  ]);
});

test('no difference is found exactly where the hash is the same, whatever the order of keys', (t) => {
  const leaf = fc.oneof(
    fc.integer({ min: 0, max: 2 }),
    fc.boolean(),
    fc.array(fc.integer({ min: 0, max: 1 })),
  );
  const tree = fc.dictionary(
    fc.constantFrom('a', 'b', 'c'),
    fc.dictionary(fc.constantFrom('p', 'q'), leaf, { minKeys: 1 }),
  );
  const reversed = (value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .reverse()
            .map(([k, v]) => [k, reversed(v)]),
        )
      : value;
  fc.assert(
    fc.property(tree, tree, (a, b) => {
      t.is(canonicalJson(a), canonicalJson(reversed(a)));
      t.deepEqual(diffConfigs(a, reversed(a)), []);
      t.is(diffConfigs(a, b).length === 0, hashConfig(a) === hashConfig(b));
    }),
  );
});

test('the JSON Schema describes each key and allows a file to be extended or included', (t) => {
  const schema = jsonSchema(Config) as {
    properties: Record<string, { anyOf?: { type: string; properties?: Record<string, unknown> }[] }>;
    required?: unknown;
  };
  t.truthy(schema.properties.extends);
  t.is(schema.required, undefined);
  t.deepEqual(
    schema.properties.model!.anyOf!.map((one) => one.type),
    ['object', 'string'],
  );
  t.deepEqual(Object.keys(schema.properties.model!.anyOf![0]!.properties!), Object.keys(Model.shape));
});

test('a number that is 0 or infinite in single precision is refused where it is computed with', (t) => {
  const schema = positiveFloat32();
  for (const value of [1.5e-45, 1e-8, 3.4e38]) t.is(schema.parse(value), value);
  for (const value of [1e-50, 1e39, 0, -1])
    t.is(schema.safeParse(value).error?.issues.length, 1, String(value));
  const { message } = t.throws(() =>
    parseConfig({ epsilon: 1e-50 }, z.strictObject({ epsilon: schema }), 'run.yaml'),
  );
  t.regex(message, /epsilon: must be a positive number of single precision, which 1e-50 is not/);
});
