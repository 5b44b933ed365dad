/** Widths of tensors that have a row for each token: what memory is planned by. */

/**
 * Numbers of a row: activations; or those that have four bytes each whatever the precision of activations is; or `narrowed`, a copy in
 * that precision of what has four bytes, which is not made where these are the same.
 */
export type Width = number | { readonly words: number } | { readonly narrowed: number };

/**
 * What a plain operation gives of operands of which one is no activation (zeros, a number, a weight): single precision; beside it stands
 * what kernels read, in the precision of activations.
 */
export function widened(width: number): Width[] {
  return [{ words: width }, { narrowed: width }];
}
