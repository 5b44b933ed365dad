/** How the heads of an attention block lie in the rows of its tensors. */

export interface AttentionLayout {
  /** Sequences; rows are token after token, sequence after sequence. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly sequence: number;
  /**
   * The first row of each document, in order; every sequence begins one. Rows see those of their own document only, and positions
   * are counted from its first. Left out, each sequence is a document.
   */
  readonly documents?: Int32Array | undefined;
  /** Query heads. */
  readonly heads: number;
  /** Key-value heads, each shared by `heads / keyValueHeads` neighbouring query heads. */
  readonly keyValueHeads: number;
  /** Channels of a head; even. */
  readonly headDim: number;
  /** The gate on the output: none, one logit for each channel of each head, or one for each head. */
  readonly gate: 'none' | 'elementwise' | 'headwise';
  /** Scores become scoreCap · tanh(score / scoreCap) before their softmax, where it is given; on most backends computed in plain operations. */
  readonly scoreCap?: number | undefined;
  /** How many tokens a query sees, its own and those just before it; left out, all before it. */
  readonly window?: number | undefined;
  /** Added to the mean square by the norms of queries and keys. */
  readonly epsilon: number;
}

/** How rows are cut into sequences and documents. */
export type RowLayout = Pick<AttentionLayout, 'batch' | 'sequence' | 'documents'>;

/** The first row of each document, and then the number of rows. */
export function documentBounds({ batch, sequence, documents }: RowLayout): Int32Array {
  if (!documents) {
    return Int32Array.from({ length: sequence === 0 ? 1 : batch + 1 }, (_, index) => index * sequence);
  }
  const bounds = new Int32Array(documents.length + 1).fill(batch * sequence);
  bounds.set(documents);
  return bounds;
}

/** What native kernels are told of the documents: their bounds, and how many there are. */
export function documentArguments(layout: RowLayout): [Int32Array, number] {
  const bounds = documentBounds(layout);
  return [bounds, bounds.length - 1];
}

/** For each row, the first row of its document. */
export function documentStarts(layout: RowLayout): Int32Array {
  const bounds = documentBounds(layout);
  const starts = new Int32Array(bounds.at(-1)!);
  for (let document = 0; document + 1 < bounds.length; document++) {
    starts.fill(bounds[document]!, bounds[document]!, bounds[document + 1]!);
  }
  return starts;
}

/** Gate logits of one token. */
export function gateWidth({ heads, headDim, gate }: AttentionLayout): number {
  return gate === 'none' ? 0 : gate === 'headwise' ? heads : heads * headDim;
}

/** Columns of the projection that a block's queries, gates, keys and values come from. */
export function projectionWidth(layout: AttentionLayout): number {
  return (layout.heads + 2 * layout.keyValueHeads) * layout.headDim + gateWidth(layout);
}
