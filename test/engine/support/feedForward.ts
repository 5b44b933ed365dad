/** Gated feed-forward, written plainly in double precision; arguments as those of `gatedFeedForward`. */
export function feedForwardInDoubles(
  x: Float64Array,
  gateUp: Float64Array,
  down: Float64Array,
  channels: number,
  units: number,
): Float64Array {
  const y = new Float64Array(x.length);
  const dot = (row: number, n: number) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += gateUp[row * channels + c]! * x[n * channels + c]!;
    return sum;
  };
  for (let n = 0; n < x.length / channels; n++) {
    for (let f = 0; f < units; f++) {
      const gate = dot(f, n);
      const hidden = (gate / (1 + Math.exp(-gate))) * dot(units + f, n);
      for (let c = 0; c < channels; c++) y[n * channels + c]! += down[c * units + f]! * hidden;
    }
  }
  return y;
}
