/** Where a gate stands (paper §2.2, Figure 1), and how the tensor there is divided into heads. */

import type { BlockSizes } from '../block.ts';

/** The paper's G4, G3, G2, G1, G5. */
export const GATE_POSITIONS = ['query', 'key', 'value', 'sdpa', 'output'] as const;

export type GatePosition = (typeof GATE_POSITIONS)[number];

export interface GatedTensor {
  readonly heads: number;
  /** Channels of one head. */
  readonly channels: number;
}

export function gatedTensor(position: GatePosition, sizes: BlockSizes): GatedTensor {
  const { hiddenSize, numAttentionHeads, numKeyValueHeads, headDim } = sizes;
  switch (position) {
    case 'query':
    case 'sdpa':
      return { heads: numAttentionHeads, channels: headDim };
    case 'key':
    case 'value':
      return { heads: numKeyValueHeads, channels: headDim };
    case 'output':
      return { heads: 1, channels: hiddenSize };
  }
}
