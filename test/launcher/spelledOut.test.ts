import { RunConfig } from '@sluice/train';
import test from 'ava';
import { z } from 'zod';
import { judgeChanges, resumeRule } from '../../launcher/src/run/resumeRules.ts';
import { MEANINGS, meantDifferences, spelledOut } from '../../launcher/src/run/spelledOut.ts';
import { SMALL_CONFIG } from './support/config.ts';

type Json = { [key: string]: Json } & Json[];

/** Paths of the keys that may be left out and have no default that the schema knows, * for any key or item. */
function keysLeftOut(schema: Json, root = schema, path: string[] = []): string[] {
  if (path.length > 8) return [];
  if (typeof schema.$ref === 'string') {
    return keysLeftOut((root.$defs as Json)[(schema.$ref as string).split('/').at(-1)!]!, root, path);
  }
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, child]) => {
    const isLeftOut = !Array.from(schema.required ?? []).includes(key as never) && !('default' in child);
    const here = [...path, key];
    return [...(isLeftOut ? [here.join('.')] : []), ...keysLeftOut(child, root, here)];
  });
  const alternatives = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  const within = [schema.items, schema.additionalProperties].filter((one) => typeof one === 'object');
  return [
    ...own,
    ...alternatives.flatMap((one) => keysLeftOut(one, root, path)),
    ...within.flatMap((one) => keysLeftOut(one!, root, [...path, '*'])),
  ];
}

/** Keys that no value means the same as: they are switched on by being there, or stand in place of others. */
const NOTHING_ELSE = new Set([
  ...['intermediateSize', 'experts', 'experts.groups', 'experts.logitCap', 'experts.balanceBias'],
  ...['swigluLimit', 'sharedSwigluLimit', 'mixer', 'window', 'keyValueLatent', 'layers', 'layers.first'],
  ...['layers.last', 'gate', 'gate.initialLogit', 'gates', 'controls.*.attention', 'controls.*.logits'],
  ...['queryScale', 'positions', 'ropeScaling', 'zeroCentredNorms', 'embeddingScaling', 'logitScale'],
]);
const NOTHING_ELSE_OF_RUNS = new Set([
  ...['initialize.from', 'data.recipe', 'data.mixture', 'data.beginning', 'parallel.synchronize'],
  ...['batch.ramp', 'batch.ramp.increment', 'batch.ramp.steps', 'batch.ramp.tokens'],
  // Lengths are in steps once a configuration is read, and settings of what is used are filled in.
  ...['training.steps', 'training.tokens', 'schedule.warmupTokens', 'schedule.decayTokens'],
  ...['optimizer.muon', 'optimizer.adaptiveClip', 'optimizer.qkClip'],
  // Rows that are interleaved with the queries then decay by themselves, which rounds otherwise.
  'optimizer.gateWeightDecay',
]);

test('of every key that may be left out, but those that change no bit, it is known what leaving it out means', (t) => {
  const schema = z.toJSONSchema(RunConfig, { io: 'input', unrepresentable: 'any' }) as unknown as Json;
  const unknown = keysLeftOut(schema).filter(
    (path) =>
      resumeRule(path) !== 'free' &&
      !(path in MEANINGS) &&
      !NOTHING_ELSE_OF_RUNS.has(path) &&
      !NOTHING_ELSE.has(path.replace(/^model\./, '')),
  );
  t.deepEqual([...new Set(unknown)], []);
});

const delta = { kind: 'gated-delta-net', keyHeads: 1, valueHeads: 2, keyDim: 4, valueDim: 4 };
const yarn = { kind: 'yarn', factor: 4, originalLength: 16 };

/** Configurations that between them have every section that `MEANINGS` has keys of. */
const CONFIGS: Readonly<Record<string, object>> = {
  experts: {
    model: {
      ...SMALL_CONFIG.model,
      experts: { ...SMALL_CONFIG.model.experts, sharedIntermediateSize: 8 },
      ropeScaling: yarn,
      gates: [{ input: 'input-independent', granularity: 'headwise' }, { position: 'value' }],
      controls: [{ kind: 'sandwich-norm' }],
    },
    parallel: { lanes: 2, synchronize: { everySteps: 4, replicas: 2, overlapSteps: 1 } },
    schedule: { kind: 'wsd', warmupSteps: 2 },
    optimizer: { learningRate: 0.003, groups: { norms: {}, attention: { learningRateScale: 0.5 } } },
  },
  kinds: {
    model: {
      ...SMALL_CONFIG.model,
      layers: {
        kinds: { delta: { mixer: delta }, scaled: { ropeScaling: yarn }, plain: { feedForward: 'experts' } },
        pattern: ['delta', 'scaled', 'plain'],
      },
    },
    backend: 'cuda',
  },
};

function parsed(changes: object): RunConfig {
  return RunConfig.parse({ ...SMALL_CONFIG, parallel: { lanes: 2 }, ...changes });
}

/** Every leaf that spelling out adds, one at a time, in the place of the configuration that it is of. */
function* additions(plain: unknown, spelled: unknown, path: string[] = []): Generator<[string[], unknown]> {
  if (plain === undefined) yield [path, spelled];
  else if (typeof spelled === 'object' && spelled !== null)
    for (const [key, value] of Object.entries(spelled)) {
      if (value !== undefined) yield* additions((plain as Json)[key], value, [...path, key]);
    }
}

for (const [name, changes] of Object.entries(CONFIGS)) {
  test(`what is written down is no change where leaving it out meant the same: ${name}`, (t) => {
    const config = parsed(changes);
    let tried = 0;
    for (const [path, value] of additions(config, spelledOut(config))) {
      const copy = structuredClone(config) as unknown as Json;
      const section = path.slice(0, -1).reduce((one, key) => one[key]!, copy);
      section[path.at(-1)!] = value as Json;
      const { success, data } = RunConfig.safeParse(copy);
      // Some are no words that a configuration may have there, such as a bias of a gate that has none.
      if (!success) continue;
      tried++;
      t.deepEqual(judgeChanges(config, data, []), [], path.join('.'));
      t.deepEqual(judgeChanges(data, config, []), [], path.join('.'));
    }
    t.true(tried >= 10, `${tried} were tried`);
  });
}

test('another value than that is a change, told as it was written', (t) => {
  const synchronize = { everySteps: 4, replicas: 2, overlapSteps: 1 };
  const run = (mixing?: number) =>
    parsed({
      parallel: { lanes: 2, synchronize: { ...synchronize, ...(mixing !== undefined && { mixing }) } },
    });
  t.deepEqual(meantDifferences(run(), run(0.5)), []);
  t.deepEqual(meantDifferences(run(), run(0.25)), [
    { key: 'parallel.synchronize.mixing', before: undefined, after: 0.25 },
  ]);
  t.deepEqual(meantDifferences(run(0.25), run()).length, 1);
  const norms = (weightDecay: number) => ({ learningRate: 0.001, groups: { norms: { weightDecay } } });
  t.is(meantDifferences(parsed({}), parsed({ optimizer: norms(0) })).length, 0);
  t.is(meantDifferences(parsed({}), parsed({ optimizer: norms(0.1) })).length, 1);
});
