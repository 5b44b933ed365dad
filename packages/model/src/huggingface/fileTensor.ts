/** A tensor of a Hugging Face checkpoint's files, and which elements of the model's logical tensors lie in it. */

import type { LogicalTensor } from '../parameters.ts';

/** Elements [begin, begin + size) of a flattened logical tensor. */
export interface TensorRun {
  readonly name: string;
  readonly begin: number;
  readonly size: number;
}

/** A tensor of the files. */
export interface HuggingFaceTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** What lies in it, one after the other; nothing where all elements are `constant`. */
  readonly runs: readonly TensorRun[];
  /** Of a tensor that the model does not have, but the layout does: what all its elements are. Only written, never read. */
  readonly constant?: number;
  /** What the elements are times, and then plus, in the files, where a layout stores them otherwise. Only written, never read. */
  readonly factor?: number;
  readonly shift?: number;
}

/** All of a logical tensor. */
export function wholeTensor({ name, size }: Pick<LogicalTensor, 'name' | 'size'>): TensorRun {
  return { name, begin: 0, size };
}
