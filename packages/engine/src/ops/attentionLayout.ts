/** How the heads of an attention block lie in the rows of its tensors. */

export interface AttentionLayout {
  /** Sequences; rows are token after token, sequence after sequence. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly sequence: number;
  /** Query heads. */
  readonly heads: number;
  /** Key-value heads, each shared by `heads / keyValueHeads` neighbouring query heads. */
  readonly keyValueHeads: number;
  /** Channels of a head; even. */
  readonly headDim: number;
  /** The gate on the output: none, one logit for each channel of each head, or one for each head. */
  readonly gate: 'none' | 'elementwise' | 'headwise';
  /** Added to the mean square by the norms of queries and keys. */
  readonly epsilon: number;
}

/** Gate logits of one token. */
export function gateWidth({ heads, headDim, gate }: AttentionLayout): number {
  return gate === 'none' ? 0 : gate === 'headwise' ? heads : heads * headDim;
}

/** Columns of the projection that a block's queries, gates, keys and values come from. */
export function projectionWidth(layout: AttentionLayout): number {
  return (layout.heads + 2 * layout.keyValueHeads) * layout.headDim + gateWidth(layout);
}
