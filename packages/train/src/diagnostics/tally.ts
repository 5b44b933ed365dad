/**
 * Sums and maxima that measurements are made of. Those of parts of a batch are merged in a fixed order, so that the result
 * does not depend on who measured which part.
 */

import { invariant } from '@sluice/core';
import {
  hasRecurrence,
  layerModels,
  type ModelConfig,
  mostAttentionHeads,
  type ObservedGate,
  observedGates,
} from '@sluice/model';

/** Bins of the histogram of gate scores, of equal width over [0, 1]. */
export const GATE_BINS = 50;

/** Numbers of a gate before its histogram: Σ score, scores, how many are below 0.05, how many below 0.1, how many above 0.9. */
export const GATE_NUMBERS = 5;

interface Quantity {
  readonly name: string;
  readonly length: number;
  readonly merge: 'sum' | 'max';
}

/**
 * The gates between the output of attention and the output projection, where all of them multiply; none otherwise. Only then
 * does it mean something to multiply by their mean scores instead.
 */
export function attentionOutputGates(model: ModelConfig): ObservedGate[] {
  const gates = observedGates(model).filter(({ position }) => position === 'sdpa');
  return gates.every(({ form }) => form === 'multiplicative') ? gates : [];
}

/** What is counted in each layer. */
function quantitiesOf(model: ModelConfig): Quantity[] {
  // Layers with fewer heads leave the last places as they are.
  const heads = mostAttentionHeads(model);
  const sum = (name: string, length: number): Quantity => ({ name, length, merge: 'sum' });
  const max = (name: string, length: number): Quantity => ({ name, length, merge: 'max' });
  return [
    sum('documents', 1),
    sum('firstToken', heads),
    sum('firstQuery', heads),
    sum('attentionEntropy', heads),
    max('largestLogit', heads),
    max('layerOutput', 1),
    max('feedForwardOutput', 1),
    sum('attentionOutput', 3),
    sum('gatedAttentionOutput', 3),
    ...(attentionOutputGates(model).length > 0 ? [sum('meanGatedAttentionOutput', 3)] : []),
    ...observedGates(model).flatMap(({ name }) => [
      sum(`gate ${name}`, GATE_NUMBERS + GATE_BINS),
      // The same in all parts of a batch.
      max(`weights of gate ${name}`, heads),
    ]),
    // Of delta rules: Σ e^g, how many, how many are below 0.1, how many above 0.99, Σ β.
    ...(layerModels(model).some(hasRecurrence) ? [sum('recurrence', 5)] : []),
    // The same in all parts of a batch.
    ...(model.experts?.balanceBias ? [max('routerBias', model.experts.count)] : []),
    ...(model.experts
      ? [sum('expertCounts', model.experts.count), sum('routerEntropy', 1), sum('routerZ', 1)]
      : []),
  ];
}

/** The counts of all layers in one array of numbers. */
export class Tally {
  readonly values: Float64Array;
  readonly #quantities: readonly Quantity[];
  readonly #layerLength: number;

  /** Numbers that the tally of a model has. */
  static length(model: ModelConfig): number {
    return model.numLayers * lengthOf(quantitiesOf(model));
  }

  /** @param values of the right length, all zero for an empty tally */
  constructor(model: ModelConfig, values: Float64Array = new Float64Array(Tally.length(model))) {
    this.values = values;
    this.#quantities = quantitiesOf(model);
    this.#layerLength = lengthOf(this.#quantities);
  }

  /** The numbers of one quantity, to be read and written. */
  at(layer: number, name: string): Float64Array {
    const index = this.#quantities.findIndex((quantity) => quantity.name === name);
    invariant(index >= 0, `nothing is counted as ${name}`);
    const offset = layer * this.#layerLength + lengthOf(this.#quantities.slice(0, index));
    return this.values.subarray(offset, offset + this.#quantities[index]!.length);
  }

  /** Adds what comes after this tally in the batch. */
  merge(next: Tally): void {
    let i = 0;
    while (i < this.values.length) {
      for (const { length, merge } of this.#quantities) {
        for (const end = i + length; i < end; i++) {
          const [a, b] = [this.values[i]!, next.values[i]!];
          this.values[i] = merge === 'sum' ? a + b : Math.max(a, b);
        }
      }
    }
  }
}

function lengthOf(quantities: readonly Quantity[]): number {
  return quantities.reduce((sum, { length }) => sum + length, 0);
}

/** The tally of a whole batch from those of its parts, of which there is at least one. */
export function mergeTallies(model: ModelConfig, parts: readonly Tally[]): Tally {
  const [first, ...rest] = parts;
  const whole = new Tally(model, first!.values.slice());
  for (const part of rest) whole.merge(part);
  return whole;
}
