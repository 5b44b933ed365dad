/** What takes memory on a device and follows from no shape: for those who take it, and for plans. */

/** Blocks of the arena begin at multiples of this. */
export const ALIGNMENT = 512;

/** What so many bytes take of an arena. */
export function arenaBytes(bytes: number): number {
  return Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
}

/** Tokens whose logits are there at a time. The order of the sum in the weights' gradient depends on it. */
export const TOKENS_TOGETHER = 1024;

/** Of a device's memory, left to what else needs some: code, NCCL, what is between blocks. */
export const SHARE_OF_OTHERS = 1 / 16;
