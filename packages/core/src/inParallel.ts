/** Work on many items, of which a few are under way at once. */

/**
 * Awaits `work` for each item, at most `atOnce` of them at a time, begun in order.
 * @returns the results, in the order of the items
 * @throws what the first that failed threw, once nothing is under way any more
 */
export async function inParallel<Item, Result>(
  items: Iterable<Item>,
  atOnce: number,
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const source = [...items].entries();
  let failure: { readonly error: unknown } | undefined;
  const lane = async () => {
    for (const [index, item] of source) {
      if (failure) return;
      try {
        results[index] = await work(item, index);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  if (failure) throw failure.error;
  return results;
}
