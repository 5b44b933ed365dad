/** Widths of tensors that have a row for each token: what memory is planned by. */

/**
 * Numbers of a row: activations; or those that have four bytes each whatever the precision of activations is.
 */
export type Width = number | { readonly words: number };
