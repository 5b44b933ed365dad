/** Families whose layers norm what their blocks add to the residual stream. */

/** The control of the configuration. */
export function sandwichNorm(epsilon?: number): object {
  return { kind: 'sandwich-norm', ...(epsilon !== undefined && { epsilon }) };
}

/** Our names of a layer's norms by what a family calls them. */
export function sandwichNames(names: {
  readonly beforeAttention: string;
  readonly afterAttention: string;
  readonly beforeFeedForward: string;
  readonly afterFeedForward: string;
}): Readonly<Record<string, string>> {
  return {
    'input_layernorm.weight': `${names.beforeAttention}.weight`,
    'self_attn.output_norm.weight': `${names.afterAttention}.weight`,
    'post_attention_layernorm.weight': `${names.beforeFeedForward}.weight`,
    'mlp.output_norm.weight': `${names.afterFeedForward}.weight`,
  };
}
