/** Files of the families that are not as they should be, and those of models that do more than language. */

import { cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SafetensorsFile, writeSafetensors } from '@sluice/checkpoint';
import {
  exportHuggingFace,
  HuggingFaceDirectory,
  importHuggingFace,
  readJson,
  tokenizerOfHuggingFace,
} from '@sluice/checkpoint/huggingface';
import test, { type ExecutionContext } from 'ava';
import { fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

type Config = Record<string, unknown>;
interface Stored {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** A copy of a fixture with other tensors and another configuration. */
async function changed(
  t: ExecutionContext,
  name: string,
  change: (tensors: Map<string, Stored>, config: Config) => Config | undefined,
): Promise<string> {
  const path = join(temporaryDirectory(t), 'hf');
  cpSync(fixture(name), path, { recursive: true });
  const weights = join(path, 'model.safetensors');
  const file = await SafetensorsFile.open(weights);
  const tensors = new Map<string, Stored>();
  for (const [tensor, { shape }] of file.tensors) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    await file.readFloats(tensor, values);
    tensors.set(tensor, { shape, values });
  }
  await file.close();
  const config: Config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  writeFileSync(join(path, 'config.json'), JSON.stringify(change(tensors, config) ?? config));
  const all = [...tensors].map(([tensor, stored]) => ({ name: tensor, dtype: 'F32' as const, ...stored }));
  await writeSafetensors(weights, all);
  return path;
}

const zeros = (...shape: number[]): Stored => ({
  shape,
  values: new Float32Array(shape.reduce((a, b) => a * b, 1)),
});

const faults: [
  string,
  string,
  (tensors: Map<string, Stored>, config: Config) => Config | undefined,
  RegExp,
][] = [
  [
    'missing, superfluous and misshaped tensors',
    'afmoe',
    (tensors) => {
      tensors.delete('model.layers.1.mlp.expert_bias');
      tensors.set('model.layers.0.self_attn.gate_proj.weight', zeros(31, 16));
      tensors.set('model.layers.0.mlp.router.gate.weight', zeros(4, 16));
      return undefined;
    },
    /layers\.0\.self_attn\.gate_proj\.weight has the shape \[31, 16\], config\.json makes it \[32, 16\].*layers\.1\.mlp\.expert_bias is missing.*layers\.0\.mlp\.router\.gate\.weight is of no use/,
  ],
  [
    'experts that are cut otherwise',
    'qwen3.5-moe',
    (tensors) => {
      tensors.set('model.layers.0.mlp.experts.gate_up_proj', zeros(4, 16, 12));
      return undefined;
    },
    /experts\.gate_up_proj has the shape \[4, 16, 12\], config\.json makes it \[4, 12, 16\]/,
  ],
  [
    'projections of linear layers as another family has them',
    'qwen3-next',
    (tensors) => {
      tensors.delete('model.layers.0.linear_attn.in_proj_qkvz.weight');
      tensors.set('model.layers.0.linear_attn.in_proj_qkv.weight', zeros(40, 16));
      return undefined;
    },
    /in_proj_qkvz\.weight is missing.*in_proj_qkv\.weight is of no use/,
  ],
  [
    'heads of other layers',
    'laguna',
    (_, config) => ({ ...config, num_attention_heads_per_layer: [2, 4, 2] }),
    /layers\.2\.self_attn\.q_proj\.weight has the shape \[32, 16\], config\.json makes it \[16, 16\]/,
  ],
];

for (const [what, name, change, message] of faults) {
  test(`${what} are refused by name`, async (t) => {
    const error = await failureOf(HuggingFaceDirectory.open(await changed(t, name, change)));
    t.is(error.code, 'SLUICE_E_HF_TENSORS');
    t.regex(error.message, message);
  });
}

test('a file that is cut, and an index of files that are not there, are refused', async (t) => {
  const cut = await changed(t, 'lfm3', () => undefined);
  truncateSync(join(cut, 'model.safetensors'), 40_000);
  t.is((await failureOf(HuggingFaceDirectory.open(cut))).code, 'SLUICE_E_SAFETENSORS_INVALID');
  const indexed = join(temporaryDirectory(t), 'hf');
  cpSync(fixture('lfm3'), indexed, {
    recursive: true,
    filter: (path) => !path.endsWith('model.safetensors'),
  });
  const index = { weight_map: { 'model.embed_tokens.weight': 'model-00001-of-00002.safetensors' } };
  writeFileSync(join(indexed, 'model.safetensors.index.json'), JSON.stringify(index));
  const error = await failureOf(HuggingFaceDirectory.open(indexed));
  t.regex(error.message, /model-00001-of-00002\.safetensors/);
});

/** Puts a Qwen3.5 into one that sees too: its tensors are called otherwise, and its configuration lies in another one. */
function withinOneThatSees(tensors: Map<string, Stored>, config: Config, inner: Config = {}): Config {
  for (const [name, stored] of [...tensors]) {
    tensors.delete(name);
    tensors.set(name.replace('model.', 'model.language_model.'), stored);
  }
  const { tie_word_embeddings: tie, architectures: _, bos_token_id, eos_token_id, ...text } = config;
  return {
    ...{ model_type: 'qwen3_5', architectures: ['Qwen3_5ForConditionalGeneration'], image_token_id: 5 },
    ...{ vision_config: { depth: 2 }, tie_word_embeddings: tie },
    text_config: { ...text, ...inner },
  };
}

test('the language model in one that sees is taken, what else it has is named', async (t) => {
  const plain = join(temporaryDirectory(t), 'plain');
  const { weights } = await importHuggingFace(fixture('qwen3.5'), plain);
  const wrapped = await changed(t, 'qwen3.5', (tensors, config) => {
    const inner = { attn_output_gate: true, mtp_num_hidden_layers: 1, mamba_ssm_dtype: 'float32' };
    const outer = withinOneThatSees(tensors, config, inner);
    tensors.set('model.visual.patch_embed.proj.weight', zeros(3));
    tensors.set('mtp.fc.weight', zeros(16, 32));
    tensors.set('mtp.layers.0.self_attn.q_proj.weight', zeros(64, 16));
    return outer;
  });
  const target = join(temporaryDirectory(t), 'checkpoint');
  const imported = await importHuggingFace(wrapped, target);
  t.is(imported.weights, weights);
  t.is(imported.layout, 'qwen3.5');
  t.regex(imported.notes.join('\n'), /only the language model in qwen3_5 is taken.*left out: vision_config/);
  t.regex(
    imported.notes.join('\n'),
    /layers that predict further tokens \(2 tensors, such as mtp\.fc\.weight\)/,
  );
  t.regex(imported.notes.join('\n'), /the part that sees \(1 tensors, such as model\.visual/);
});

test('a tied output projection that is stored beside a language model in one that sees must be its embedding', async (t) => {
  const withOutput = (change: number) =>
    changed(t, 'qwen3.5', (tensors, config) => {
      const { shape, values } = tensors.get('model.embed_tokens.weight')!;
      const outer = withinOneThatSees(tensors, config);
      tensors.set('lm_head.weight', { shape, values: values.with(40, values[40]! + change) });
      return outer;
    });
  await (await HuggingFaceDirectory.open(await withOutput(0))).close();
  const error = await failureOf(HuggingFaceDirectory.open(await withOutput(1)));
  t.is(error.code, 'SLUICE_E_HF_TENSORS');
  t.regex(
    error.message,
    /lm_head\.weight differs from model\.language_model\.embed_tokens\.weight.*ties them/,
  );
});

test('a model that sees whose weights are quantised is refused by the key that says so', async (t) => {
  const path = await changed(t, 'qwen3.5', (tensors, config) => ({
    ...withinOneThatSees(tensors, config),
    quantization_config: { quant_method: 'fp8' },
  }));
  const error = await failureOf(HuggingFaceDirectory.open(path));
  t.is(error.code, 'SLUICE_E_HF_UNSUPPORTED');
  t.regex(error.message, /quantised weights.*\(quantization_config \{"quant_method":"fp8"\}/);
});

test('special tokens of the language model in one that sees are its own, unless the whole model has others', async (t) => {
  const tokensOf = async (outer: Config, inner: Config) => {
    const path = await changed(t, 'qwen3.5', (tensors, config) => ({
      ...withinOneThatSees(tensors, config, inner),
      ...outer,
    }));
    const { tokenKeys } = tokenizerOfHuggingFace(path, readJson(join(path, 'config.json')));
    return tokenKeys;
  };
  const inner = { bos_token_id: 1, eos_token_id: [3, 5] };
  t.like(await tokensOf({}, inner), inner);
  t.like(await tokensOf({ bos_token_id: null, eos_token_id: 4 }, inner), {
    bos_token_id: 1,
    eos_token_id: 4,
  });
});

test('layers of Step-3.5 behind its depth predict further tokens, and are left out with a word', async (t) => {
  const path = await changed(t, 'step3.5', (tensors, config) => {
    tensors.set('model.layers.3.enorm.weight', zeros(16));
    const padded = (key: string, item: unknown) => [...(config[key] as unknown[]), item];
    return {
      ...config,
      num_nextn_predict_layers: 1,
      layer_types: padded('layer_types', 'full_attention'),
      mlp_layer_types: padded('mlp_layer_types', 'dense'),
      swiglu_limits: padded('swiglu_limits', null),
    };
  });
  const directory = await HuggingFaceDirectory.open(path);
  t.regex(
    directory.notes.join(),
    /layers that predict further tokens \(1 tensors, such as model\.layers\.3\.enorm/,
  );
  t.is(directory.model.numLayers, 3);
  await directory.close();
});

test('experts one by one and all in one tensor are the same model of Qwen3.5', async (t) => {
  const directory = temporaryDirectory(t);
  const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
  const { weights } = await importHuggingFace(fixture('qwen3.5-moe'), checkpoint);
  await exportHuggingFace({ checkpoint, target, dtype: 'f32', layout: 'qwen3.5-moe-per-expert' });
  const back = await importHuggingFace(target, join(directory, 'back'));
  t.is(back.layout, 'qwen3.5-moe-per-expert');
  t.is(back.weights, weights);
});

test('numbers that transformers wants with a point are written with one', async (t) => {
  const directory = temporaryDirectory(t);
  const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
  await importHuggingFace(fixture('laguna'), checkpoint);
  await exportHuggingFace({ checkpoint, target, dtype: 'f32' });
  const text = readFileSync(join(target, 'config.json'), 'utf8');
  for (const key of ['attention_dropout', 'rope_theta', 'factor', 'beta_fast', 'moe_routed_scaling_factor'])
    t.regex(text, new RegExp(`"${key}": \\d+\\.\\d+`), key);
  t.regex(text, /"sliding_window": 16,/);
  t.regex(text, /"moe_router_logit_softcapping": 0\.0/);
});
