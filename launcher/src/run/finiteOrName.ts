/** A number as JSON can have it: JSON has no infinities and no NaN; their names tell more than its null. */
export function finiteOrName(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}
