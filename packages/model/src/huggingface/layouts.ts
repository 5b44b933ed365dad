/** The Hugging Face layouts that Sluice reads and writes. */

/**
 * - `gated`: that of the paper's released checkpoints: dense, `headwise_attn_output_gate`, `elementwise_attn_output_gate`.
 * - `qwen3`: dense, no gate.
 * - `qwen3-moe`: mixture of experts, no gate, each matrix of each expert a tensor.
 * - `qwen3-moe-fused`: the same with all experts of a layer in two tensors, as newer versions of `transformers` have it.
 *
 * The others are families of gated models: see `families/`. Those that end in `-per-expert` have a tensor for each matrix of
 * each expert in place of two for all experts of a layer.
 */
export const HUGGING_FACE_LAYOUTS = [
  'gated',
  'qwen3',
  'qwen3-moe',
  'qwen3-moe-fused',
  'qwen3-next',
  'qwen3.5',
  'qwen3.5-moe',
  'qwen3.5-moe-per-expert',
  'afmoe',
  'laguna',
  'lfm3',
  'muse-glimmer',
  'olmo-hybrid',
  'step3.5',
  'kimi-linear',
] as const;

export type HuggingFaceLayout = (typeof HUGGING_FACE_LAYOUTS)[number];

/** The layouts that `config.json` alone can tell apart; which one of experts it is, the tensors' names tell. */
export type ConfigLayout = Exclude<HuggingFaceLayout, 'qwen3-moe-fused' | `${string}-per-expert`>;

/** The layouts of one kind of layers, which `import.ts` and `export.ts` know; all others are families. */
export type PlainLayout = 'gated' | 'qwen3' | 'qwen3-moe' | 'qwen3-moe-fused';
