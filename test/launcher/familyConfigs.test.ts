import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { loadYamlConfig } from '@sluice/core';
import {
  countParameters,
  defaultLayout,
  exportModelConfig,
  type HuggingFaceLayout,
  ModelConfig,
  SCALES,
} from '@sluice/model';
import test from 'ava';

/**
 * Parameters of the classes of `transformers` 5.24 with the released sizes (bias of the choice of experts included, layers that
 * predict further tokens and parts that see not).
 */
const TOTALS: Readonly<Record<string, number>> = {
  'afmoe/mini-26b-a3b': 26_123_974_400,
  'afmoe/nano-6b-a1b': 6_120_003_328,
  'kimi-linear/48b-a3b': 49_122_681_728,
  'laguna/xs-2-33b-a3b': 33_442_617_088,
  'lfm3/1.7b': 1_728_801_536,
  'muse-glimmer/30b': 27_854_780_928,
  'olmo-hybrid/7b': 7_430_870_688,
  'qwen3-next/80b-a3b': 79_674_391_296,
  'qwen3.5/0.8b': 752_393_024,
  'qwen3.5/27b': 26_895_998_464,
  'qwen3.5/2b': 1_881_825_088,
  'qwen3.5/35b-a3b': 34_660_610_688,
  'qwen3.5/397b-a17b': 396_346_350_336,
  'qwen3.5/4b': 4_205_751_296,
  'qwen3.5/9b': 8_953_803_264,
  'step3.5/flash-196b-a11b': 196_956_130_368,
};

const modelOf = (name: string) => loadYamlConfig(`configs/models/${name}.yaml`, ModelConfig);

test('released models of the families have exactly the parameters of their classes', (t) => {
  for (const [name, total] of Object.entries(TOTALS)) t.is(countParameters(modelOf(name)).total, total, name);
});

test('every file of a family is one of these', (t) => {
  const families = new Set(Object.keys(TOTALS).map(dirname));
  const files = [...families].flatMap((family) =>
    readdirSync(`configs/models/${family}`).map((file) => `${family}/${file.replace(/\.yaml$/, '')}`),
  );
  t.deepEqual(files.sort(), Object.keys(TOTALS).sort());
});

test('each of them, and it made small, is said in the layout of its family', (t) => {
  for (const name of Object.keys(TOTALS)) {
    const model = modelOf(name);
    const family = dirname(name) as HuggingFaceLayout;
    const layout = family === 'qwen3.5' && model.experts ? 'qwen3.5-moe' : family;
    // Both of Qwen's layouts of experts say the same.
    t.is(defaultLayout(model), layout === 'qwen3.5-moe' ? 'qwen3-next' : layout, name);
    for (const scale of SCALES) {
      const small = ModelConfig.parse({ ...model, scale });
      t.notThrows(
        () => exportModelConfig(small, { layout, maxLength: 64, torchDtype: 'float32' }),
        `${name} ${scale}`,
      );
    }
  }
});
