/**
 * The decoder once more, as plain loops over doubles: what a diagnosis must be true of. Knows the interleaved gates, a
 * value gate of the model's own, attention sinks, capped scores, norms and clipping of what blocks add, dense feed-forward layers
 * and experts.
 */

import type { Parameter } from '@sluice/engine';
import { interleavedGate, type ModelConfig } from '@sluice/model';

type Vector = number[];
type Matrix = Vector[];

/** What one layer computed for one sequence. */
export interface NaiveLayer {
  /** [heads][queries][tokens seen] */
  readonly attention: Matrix[];
  readonly logits: Matrix[];
  /** Weight of the place that is no token, [heads][queries]; 0 without. */
  readonly sink: Matrix;
  readonly ungated: Matrix;
  readonly gated: Matrix;
  /** By the name of the gate. */
  readonly scores: Readonly<Record<string, Vector>>;
  readonly feedForward: Matrix;
  readonly output: Matrix;
  readonly router: { readonly logits: Matrix; readonly chosen: readonly number[][] } | undefined;
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((s, x, i) => s + x * b[i]!, 0);
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const add = (a: Vector, b: Vector) => a.map((x, i) => x + b[i]!);

function norm(x: Vector, gain: ArrayLike<number>, epsilon: number): Vector {
  const root = Math.sqrt(dot(x, x) / x.length + epsilon);
  return x.map((value, i) => (value / root) * gain[i]!);
}

function rotate(x: Vector, position: number, theta: number): Vector {
  const half = x.length / 2;
  return x.map((_, c) => {
    const angle = position * theta ** ((-2 * (c % half)) / x.length);
    const other = c < half ? -x[c + half]! : x[c - half]!;
    return x[c]! * Math.cos(angle) + other * Math.sin(angle);
  });
}

/** All layers' results for one sequence of tokens. */
export function naiveForward(
  model: ModelConfig,
  parameters: ReadonlyMap<string, Parameter>,
  tokens: ArrayLike<number>,
): NaiveLayer[] {
  const rows = (name: string): Float32Array[] => {
    const { hostValues: values, shape } = parameters.get(name)!;
    const width = shape.at(-1)!;
    return Array.from({ length: values.length / width }, (_, i) =>
      values.subarray(i * width, (i + 1) * width),
    );
  };
  const times = (x: Vector, matrix: readonly Float32Array[]) => matrix.map((row) => dot(x, row));
  const swiglu = (x: Vector, gateUp: readonly Float32Array[], down: readonly Float32Array[]) => {
    const both = times(x, gateUp);
    const half = both.length / 2;
    const hidden = both.slice(0, half).map((g, i) => g * sigmoid(g) * both[half + i]!);
    return times(hidden, down);
  };
  const { numAttentionHeads: H, numKeyValueHeads: K, headDim: D, rmsNormEps: eps } = model;
  const G = H / K;
  const kind = interleavedGate(model);
  const gateWidth = { none: 0, headwise: 1, elementwise: D }[kind];
  const settings = Object.fromEntries(model.controls.map((control) => [control.kind, control]));
  const { attention: cap } = (settings.softcap ?? {}) as { attention?: number };
  const { limit = Infinity } = (settings['clip-outputs'] ?? {}) as { limit?: number };
  const capped = (score: number) => (cap === undefined ? score : cap * Math.tanh(score / cap));
  const clipped = (y: Vector) => y.map((value) => Math.min(limit, Math.max(-limit, value)));
  let x: Matrix = Array.from(tokens, (token) => [...rows('model.embed_tokens.weight')[token]!]);

  return Array.from({ length: model.numLayers }, (_, layer) => {
    const p = `model.layers.${layer}`;
    const gain = (name: string) => parameters.get(`${p}.${name}.weight`)!.hostValues;
    const normed = x.map((row) => norm(row, gain('input_layernorm'), eps));
    const projected = normed.map((row) => times(row, rows(`${p}.self_attn.qkv_proj.weight`)));
    const group = G * (D + gateWidth);
    const queryAt = (t: number, h: number) => {
      const start = Math.floor(h / G) * group + (h % G) * D;
      return rotate(
        norm(projected[t]!.slice(start, start + D), gain('self_attn.q_norm'), eps),
        t,
        model.ropeTheta,
      );
    };
    const keyStart = K * group;
    const keyAt = (t: number, k: number) => {
      const raw = projected[t]!.slice(keyStart + k * D, keyStart + (k + 1) * D);
      return rotate(norm(raw, gain('self_attn.k_norm'), eps), t, model.ropeTheta);
    };
    const scores: Record<string, Vector> = {};
    const note = (name: string, score: number) => {
      scores[name] ??= [];
      scores[name].push(score);
      return score;
    };
    const valueGate = model.gates.some(({ position }) => position === 'value');
    const values = projected.map((row, t) => {
      const value = row.slice(keyStart + K * D, keyStart + 2 * K * D);
      if (!valueGate) return value;
      const logits = times(normed[t]!, rows(`${p}.self_attn.value_gate.weight`));
      return value.map((v, i) => v * note('value_gate', sigmoid(logits[i]!)));
    });
    const sinks = parameters.get(`${p}.self_attn.sinks`)?.hostValues;

    const attention: Matrix[] = [];
    const logits: Matrix[] = [];
    const sink: Matrix = [];
    const ungated: Matrix = x.map(() => []);
    const gated: Matrix = x.map(() => []);
    for (let h = 0; h < H; h++) {
      const k = Math.floor(h / G);
      logits.push(
        x.map((_, t) => x.slice(0, t + 1).map((_, j) => dot(queryAt(t, h), keyAt(j, k)) / Math.sqrt(D))),
      );
      const beyond = sinks ? Math.exp(capped(sinks[h]!)) : 0;
      const totals = logits[h]!.map((row) => row.reduce((sum, l) => sum + Math.exp(capped(l)), beyond));
      attention.push(logits[h]!.map((row, t) => row.map((l) => Math.exp(capped(l)) / totals[t]!)));
      sink.push(totals.map((total) => beyond / total));
      x.forEach((_, t) => {
        for (let d = 0; d < D; d++) {
          const y = attention[h]![t]!.reduce((sum, weight, j) => sum + weight * values[j]![k * D + d]!, 0);
          const gateStart = k * group + G * D + (h % G) * gateWidth;
          const logit = projected[t]![gateStart + (kind === 'headwise' ? 0 : d)]!;
          const isNew = kind === 'elementwise' || (kind === 'headwise' && d === 0);
          const score = kind === 'none' ? 1 : sigmoid(logit);
          if (isNew) note('sdpa_gate', score);
          ungated[t]!.push(y);
          gated[t]!.push(y * score);
        }
      });
    }
    const added = (y: Vector, gainName: string) => {
      const gainOf = parameters.get(`${p}.${gainName}.weight`)?.hostValues;
      return clipped(gainOf ? norm(y, gainOf, eps) : y);
    };
    const middle = x.map((row, t) => {
      const output = times(gated[t]!, rows(`${p}.self_attn.o_proj.weight`));
      return add(row, added(output, 'self_attn.output_norm'));
    });
    const second = middle.map((row) => norm(row, gain('post_attention_layernorm'), eps));
    const { feedForward: output, router } = model.experts ? expertsOf(second) : denseOf(second);
    const feedForward = output.map((row) => added(row, 'mlp.output_norm'));
    x = middle.map((row, t) => add(row, feedForward[t]!));
    return { attention, logits, sink, ungated, gated, scores, feedForward, output: x, router };

    function denseOf(inputs: Matrix) {
      const [gateUp, down] = [rows(`${p}.mlp.gate_up_proj.weight`), rows(`${p}.mlp.down_proj.weight`)];
      return { feedForward: inputs.map((row) => swiglu(row, gateUp, down)), router: undefined };
    }

    function expertsOf(inputs: Matrix) {
      const { count, topK, intermediateSize: F, router: kind, scalingFactor } = model.experts!;
      const bias = parameters.get(`${p}.mlp.gate.e_score_correction_bias`)?.hostValues;
      const [gateUp, down] = [
        rows(`${p}.mlp.experts.gate_up_proj.weight`),
        rows(`${p}.mlp.experts.down_proj.weight`),
      ];
      const C = model.hiddenSize;
      const routerLogits = inputs.map((row) => times(row, rows(`${p}.mlp.gate.weight`)));
      const expertScores = routerLogits.map((row) => {
        const total = row.reduce((sum, l) => sum + Math.exp(l), 0);
        return row.map((l) => (kind === 'softmax' ? Math.exp(l) / total : sigmoid(l)));
      });
      const chosen = expertScores.map((row) =>
        row
          .map((_, e) => e)
          .sort((a, b) => row[b]! + (bias?.[b] ?? 0) - row[a]! - (bias?.[a] ?? 0))
          .slice(0, topK),
      );
      const outputs = inputs.map((row, t) => {
        const weights = chosen[t]!.map((e) => expertScores[t]![e]!);
        const total = model.experts!.normalizeTopK ? weights.reduce((a, b) => a + b, 0) : 1;
        return chosen[t]!.map((e, i) =>
          swiglu(row, gateUp.slice(e * 2 * F, (e + 1) * 2 * F), down.slice(e * C, (e + 1) * C)).map(
            (y) => (y * weights[i]! * scalingFactor) / total,
          ),
        ).reduce(add);
      });
      if (chosen.flat().some((e) => e >= count)) throw new Error('an expert that does not exist');
      return { feedForward: outputs, router: { logits: routerLogits, chosen } };
    }
  });
}
