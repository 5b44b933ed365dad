/** Measures one forward pass. */

import { attentionStatistics, type QueriesKeys } from '@sluice/engine';
import type { ForwardObserver, ModelConfig, RecurrenceOperands } from '@sluice/model';
import { attentionOutputGates, GATE_BINS, GATE_NUMBERS, Tally } from './tally.ts';

/** An observer that fills the tally of one pass. All sums are in double precision and in the order of the rows. */
export class ForwardMeter implements ForwardObserver {
  readonly tally: Tally;
  /** Names of the gates whose mean scores are tried in their place. */
  readonly #replaced: ReadonlySet<string>;
  readonly #routesBySigmoid: boolean;
  /** Of the layer that is passed: the output of attention before these gates, and for each sequence their mean scores' product. */
  #ungated = new Float32Array();
  #meanScores = new Float64Array();

  constructor(model: ModelConfig, tally = new Tally(model)) {
    this.tally = tally;
    this.#routesBySigmoid = model.experts?.router === 'sigmoid';
    this.#replaced = new Set(attentionOutputGates(model).map(({ name }) => name));
  }

  attention(layer: number, operands: QueriesKeys): void {
    const firstToken = this.tally.at(layer, 'firstToken');
    const firstQuery = this.tally.at(layer, 'firstQuery');
    const entropy = this.tally.at(layer, 'attentionEntropy');
    const largest = this.tally.at(layer, 'largestLogit').fill(Number.NEGATIVE_INFINITY);
    const { heads, batch } = operands.layout;
    this.#meanScores = new Float64Array(batch).fill(1);
    const ofDocuments = attentionStatistics(operands);
    this.tally.at(layer, 'documents')[0]! += ofDocuments.length / heads;
    for (const [i, statistics] of ofDocuments.entries()) {
      const head = i % heads;
      firstToken[head]! += statistics.firstToken;
      firstQuery[head]! += statistics.firstQuery;
      entropy[head]! += statistics.entropy;
      largest[head] = Math.max(largest[head]!, statistics.largestLogit);
    }
  }

  attentionOutput(layer: number, y: Float32Array): void {
    countMagnitudes(y, 1, this.tally.at(layer, 'attentionOutput'));
    if (this.#replaced.size > 0) this.#ungated = y.slice();
  }

  gatedAttentionOutput(layer: number, y: Float32Array): void {
    countMagnitudes(y, 1, this.tally.at(layer, 'gatedAttentionOutput'));
    if (this.#replaced.size === 0) return;
    const counts = this.tally.at(layer, 'meanGatedAttentionOutput');
    for (const [sequence, values] of cut(this.#ungated, this.#meanScores.length).entries())
      countMagnitudes(values, this.#meanScores[sequence]!, counts);
  }

  gate(layer: number, name: string, scores: Float32Array, rows: number): void {
    const counts = this.tally.at(layer, `gate ${name}`);
    if (!this.#replaced.has(name)) {
      countScores(scores, counts);
      return;
    }
    const means = this.#meanScores;
    const isOfAllTokens = rows === 1;
    const parts = cut(scores, isOfAllTokens ? 1 : means.length);
    const ofParts = parts.map((part) => countScores(part, counts) / part.length);
    for (let sequence = 0; sequence < means.length; sequence++)
      means[sequence]! *= ofParts[isOfAllTokens ? 0 : sequence]!;
  }

  recurrence(layer: number, { beta, decay, aLog, dtBias, mostBeta }: RecurrenceOperands): void {
    const counts = this.tally.at(layer, 'recurrence');
    const [all, channels] = [dtBias.length, dtBias.length / aLog.length];
    let [kept, below, above, betas] = [0, 0, 0, 0];
    for (let i = 0; i < decay.length; i++) {
      const a = decay[i]! + dtBias[i % all]!;
      const softplus = Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
      const share = Math.exp(-Math.exp(aLog[Math.floor((i % all) / channels)]!) * softplus);
      kept += share;
      if (share < 0.1) below++;
      else if (share > 0.99) above++;
    }
    for (const logit of beta) betas += mostBeta / (1 + Math.exp(-logit));
    // A head's β counts for each of its decays.
    const numbers = [kept, decay.length, below, above, channels * betas];
    for (const [i, number] of numbers.entries()) counts[i]! += number;
  }

  gateNorms(layer: number, name: string, norms: Float64Array): void {
    this.tally.at(layer, `weights of gate ${name}`).set(norms);
  }

  feedForwardOutput(layer: number, y_NC: Float32Array): void {
    this.tally.at(layer, 'feedForwardOutput')[0] = largestMagnitude(y_NC);
  }

  layerOutput(layer: number, x_NC: Float32Array): void {
    this.tally.at(layer, 'layerOutput')[0] = largestMagnitude(x_NC);
  }

  router(layer: number, logits: Float32Array, counts: Int32Array, bias: Float32Array | undefined): void {
    this.tally.at(layer, 'expertCounts').set(counts);
    if (bias) this.tally.at(layer, 'routerBias').set(bias);
    const experts = counts.length;
    let [entropySum, zSum] = [0, 0];
    for (let row = 0; row < logits.length; row += experts) {
      const ofRow = logits.subarray(row, row + experts);
      const { entropy, logSumExp } = softmaxStatistics(ofRow);
      entropySum += this.#routesBySigmoid ? sigmoidEntropy(ofRow) : entropy;
      zSum += logSumExp ** 2;
    }
    this.tally.at(layer, 'routerEntropy')[0] = entropySum;
    this.tally.at(layer, 'routerZ')[0] = zSum;
  }
}

/** max |x|; NaN where there is a NaN. */
function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const magnitude = Math.abs(values[i]!);
    if (magnitude > largest) largest = magnitude;
    sum += magnitude;
  }
  return Number.isNaN(sum) ? sum : largest;
}

/** Equal parts, one after the other. */
function cut(values: Float32Array, parts: number): Float32Array[] {
  const length = values.length / parts;
  return Array.from({ length: parts }, (_, part) => values.subarray(part * length, (part + 1) * length));
}

/** Adds Σ |y·factor|, and how many |y·factor| are below 1e-2 and below 1e-3. */
function countMagnitudes(values: Float32Array, factor: number, counts: Float64Array): void {
  let [sum, hundredth, thousandth] = [0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const magnitude = Math.abs(values[i]! * factor);
    sum += magnitude;
    if (magnitude < 1e-2) hundredth++;
    if (magnitude < 1e-3) thousandth++;
  }
  counts[0]! += sum;
  counts[1]! += hundredth;
  counts[2]! += thousandth;
}

/** Adds to the numbers of a gate. @returns Σ scores */
function countScores(scores: Float32Array, counts: Float64Array): number {
  const bins = counts.subarray(GATE_NUMBERS);
  let [sum, closed, below, above] = [0, 0, 0, 0];
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!;
    sum += score;
    if (score < 0.05) closed++;
    if (score < 0.1) below++;
    else if (score > 0.9) above++;
    const bin = Math.floor(score * GATE_BINS);
    bins[bin < 0 ? 0 : bin < GATE_BINS ? bin : GATE_BINS - 1]!++;
  }
  counts[0]! += sum;
  counts[1]! += scores.length;
  counts[2]! += closed;
  counts[3]! += below;
  counts[4]! += above;
  return sum;
}

/** Entropy of softmax(x), nats, and ln Σ e^x. */
function softmaxStatistics(logits: Float32Array): { entropy: number; logSumExp: number } {
  let highest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) highest = Math.max(highest, logit);
  let [total, moment] = [0, 0];
  for (const logit of logits) {
    const weight = Math.exp(logit - highest);
    total += weight;
    if (weight > 0) moment += weight * (logit - highest);
  }
  return { entropy: Math.log(total) - moment / total, logSumExp: highest + Math.log(total) };
}

/** Entropy of the sigmoids of x divided by their sum, nats; 0 where all of them are zero. */
function sigmoidEntropy(logits: Float32Array): number {
  let [total, moment] = [0, 0];
  for (const logit of logits) {
    const score = 1 / (1 + Math.exp(-logit));
    total += score;
    if (score > 0) moment += score * Math.log(score);
  }
  return total === 0 ? 0 : Math.log(total) - moment / total;
}
