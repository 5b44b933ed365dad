/** Floats in flat memory. A `Float32Array` is some, and so is a range of a device's memory. */
export interface Floats {
  readonly length: number;
  /** The elements from `begin` until before `end`, in the same memory. */
  subarray(begin: number, end?: number): Floats;
}
