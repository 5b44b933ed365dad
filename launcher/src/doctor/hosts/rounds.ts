/** In which order pairs are tried: many at a time, but no host in two of them, so that none is measured while it serves another. */

/** Every pair of `count` hosts once, in rounds (the circle method of tournaments). */
export function rounds(count: number): (readonly [number, number])[][] {
  const even = count + (count % 2);
  return Array.from({ length: Math.max(0, even - 1) }, (_, round) => {
    const circle = Array.from({ length: even - 1 }, (_, place) => (place + round) % (even - 1));
    const places = [even - 1, ...circle];
    return Array.from({ length: even / 2 }, (_, i) => [places[i]!, places[even - 1 - i]!] as const)
      .filter(([a, b]) => a < count && b < count)
      .map(([a, b]) => (a < b ? ([a, b] as const) : ([b, a] as const)));
  });
}
