/**
 * `npm run docs`: writes what is generated from the code: the tables of errors and of the keys of a `config.json`, and the JSON
 * Schemas by which editors complete the YAML. `npm run docs -- --check` only says whether they are up to date.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root, setup } from './steps.js';
import { scriptWords } from './words.js';

const { check } = scriptWords(import.meta.url, { options: { check: { type: 'boolean' } } }).values;
setup();
const { ERROR_TABLE, jsonSchema } = await import('@sluice/core');
const { DataRecipe } = await import('@sluice/data');
const { CONFIG_KEYS, FAMILIES, keyRule, ModelConfig } = await import('@sluice/model');
const { RunConfig } = await import('@sluice/train');
const { ClaimsConfig, ExperimentConfig } = await import('../launcher/dist/index.js');

function errorsPage() {
  const rows = Object.entries(ERROR_TABLE)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, { summary, advice }]) => `## ${code}\n\n${summary}\n\n${advice}\n`);
  return `# Errors\n\nGenerated from \`packages/core/src/errors.ts\` by \`npm run docs\`.\n\n${rows.join('\n')}`;
}

/** @type {Record<string, (rule: any) => string>} */
const RULES = {
  honoured: ({ by }) => `honoured: ${by}`,
  harmless: ({ because }) => `changes nothing: ${because}`,
  refused: ({ unless, what, ignorable }) => {
    const allowed = ['null', ...unless.map((value) => JSON.stringify(value))].map((value) => `\`${value}\``);
    return `${ignorable ? 'refused, but can be ignored' : 'refused'}: ${what}; taken: ${allowed.join(', ')}`;
  },
};

function keysPage() {
  const rows = Object.keys(CONFIG_KEYS)
    .sort()
    .map((key) => {
      const byRule = new Map();
      for (const layout of /** @type {const} */ (['gated', 'qwen3', 'qwen3-moe'])) {
        const rule = keyRule(key, layout);
        const text = RULES[rule.kind](rule);
        byRule.set(text, [...(byRule.get(text) ?? []), layout]);
      }
      const text = [...byRule].map(([rule, layouts]) =>
        byRule.size === 1 ? rule : `${layouts.join(', ')}: ${rule}`,
      );
      return `| \`${key}\` | ${text.join('<br>')} |`;
    });
  return `# Keys of config.json\n\nGenerated from \`packages/model/src/huggingface/configKeys.ts\` by \`npm run docs\`. A key that is not here is refused by its name; see [Hugging Face models](huggingface.md#what-configjson-may-say).\n\n| key | what becomes of it |\n| --- | --- |\n${rows.join('\n')}\n\n## Families\n\nKeys that mean something of their own in a [family](families.md); all others are judged as above.\n\n| key | layout | what becomes of it |\n| --- | --- | --- |\n${familyRows().join('\n')}\n`;
}

/** A row for each key and rule, with the layouts that have it. */
function familyRows() {
  const byKey = new Map();
  for (const { layout, keys } of FAMILIES) {
    for (const [key, rule] of Object.entries(keys)) {
      const row = `${key} ${RULES[rule.kind](rule)}`;
      const known = byKey.get(row);
      byKey.set(row, { key, text: RULES[rule.kind](rule), layouts: [...(known?.layouts ?? []), layout] });
    }
  }
  return [...byKey.values()]
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ key, text, layouts }) => `| \`${key}\` | ${layouts.join(', ')} | ${text} |`);
}

const schema = (type) => `${JSON.stringify(jsonSchema(type), null, 2)}\n`;

const files = {
  'docs/errors.md': errorsPage(),
  'docs/huggingface-keys.md': keysPage(),
  'configs/schemas/run.json': schema(RunConfig),
  'configs/schemas/model.json': schema(ModelConfig),
  'configs/schemas/recipe.json': schema(DataRecipe),
  'configs/schemas/claims.json': schema(ClaimsConfig),
  'configs/schemas/experiment.json': schema(ExperimentConfig),
};

function isUpToDate(path, content) {
  try {
    return readFileSync(path, 'utf8') === content;
  } catch {
    return false;
  }
}

for (const [name, content] of Object.entries(files)) {
  const path = join(root, name);
  if (isUpToDate(path, content)) continue;
  if (check) {
    process.stderr.write(`${name} is not up to date; run: npm run docs\n`);
    process.exitCode = 1;
  } else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}
