/**
 * The gated decoder (paper §1.1, §5.2): RMS pre-norm, attention with QK norm, rotary embedding, grouped key-value heads
 * and a gate on its output, then a SwiGLU feed-forward layer or a mixture of experts. The attention block with its variants is
 * in `attention.ts`.
 *
 * Shapes: B sequences, T tokens each, N = B·T, C hidden, V vocabulary.
 */

import {
  addResidual,
  embedding,
  forgetUntilGradient,
  gatedFeedForward,
  linear,
  linearCrossEntropy,
  Parameter,
  rmsNorm,
  routerLogits,
  softcap,
  valuesOnHost,
  whenGradient,
  whenRead,
  withoutGradient,
  zeroCentred,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { attentionBlock } from './attention.ts';
import type { BlockContext } from './block.ts';
import type { ModelConfig } from './config.ts';
import type { Caps } from './controls/control.ts';
import { applyToBlockOutput, controlCaps } from './controls/index.ts';
import { type ExpertExchange, noExchange } from './exchange.ts';
import { type BalanceContext, expertLayer } from './experts.ts';
import type { KeyValueCache } from './keyValueCache.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';
import { type ForwardObserver, observeValues } from './observer.ts';
import { balanceBiasName } from './parameters.ts';
import { RotaryTables } from './rotaryTables.ts';
import { type BlockVariants, blockVariants } from './variants.ts';

/** Tokens of some sequences, sequence after sequence. */
export interface TokenBatch {
  /** [B·T] */
  readonly inputs: Int32Array;
  readonly sequences: number;
  /**
   * The first row of each document, in order; every sequence begins one. A token then sees those of its own document only, and its
   * position is counted from there. Left out, a sequence is one document.
   */
  readonly documents?: Int32Array | undefined;
}

/** Rows of a batch, the end excluded. */
export interface TokenRange {
  readonly begin: number;
  readonly end: number;
}

export interface LossRequest extends TokenBatch {
  /** The token that follows each input, [B·T]. */
  readonly targets: Int32Array;
  /** Tokens of the whole global batch: the loss is this batch's share of the mean over them. */
  readonly totalTokens: number;
  /** Told of named moments of the forward pass. */
  readonly observer?: ForwardObserver | undefined;
  /** For each layer with experts, the loads of the step before. */
  readonly expertLoads: readonly Float32Array[];
  /** Called in the backward pass when the gradients of all parameters of a stage are complete. */
  readonly onStageGradients?: (stage: number) => void;
  /** Called when the parts of the loss are known: at once, or where values can only be awaited, as `whenRead` does. */
  readonly onParts?: (parts: LossParts) => void;
}

export interface LossParts {
  /** Cross-entropy summed over the batch's tokens, nats. */
  readonly crossEntropySum: number;
  /** The batch's share of the weighted auxiliary losses of the global batch. */
  readonly auxiliaryLoss: number;
  /** For each layer with experts, the batch's tokens that went to each expert. */
  readonly expertCounts: readonly Int32Array[];
}

/** How the rows of a pass belong together. */
interface Rows {
  readonly sequences: number;
  readonly documents?: Int32Array | undefined;
  /** Keys and values of what comes before the rows, which are then of one sequence. */
  readonly cache?: KeyValueCache | undefined;
  readonly observer?: ForwardObserver | undefined;
}

/** What the decoder knows of one of its layers. */
interface Layer {
  readonly model: LayerModel;
  readonly variants: BlockVariants;
  /** Its place among the layers with experts; −1 without. */
  readonly expertLayer: number;
}

type LayerOutput = {
  readonly x_NC: tf.Tensor2D;
  readonly auxiliaryLoss?: tf.Scalar;
  /** Tokens of each expert. */
  readonly counts_E?: tf.Tensor1D;
};

/** What the layers give besides the hidden states. */
interface Hidden {
  readonly x_NC: tf.Tensor2D;
  /** Of the layers with experts. */
  readonly auxiliaryLosses: tf.Scalar[];
  readonly expertCounts: tf.Tensor1D[];
}

export class Decoder {
  readonly config: ModelConfig;
  readonly #parameters: ReadonlyMap<string, Parameter>;
  readonly #exchange: ExpertExchange;
  readonly #layers: readonly Layer[];
  readonly #caps: Caps;
  readonly #rotary: RotaryTables;
  readonly #ones: Parameter;

  /**
   * @param parameters by the names of `modelParameters`
   * @param exchange how tokens reach the experts that other workers hold
   */
  constructor(
    config: ModelConfig,
    parameters: ReadonlyMap<string, Parameter>,
    exchange: ExpertExchange = noExchange,
  ) {
    this.config = config;
    this.#parameters = parameters;
    this.#exchange = exchange;
    const layers = layerModels(config);
    const variants = new Map([...new Set(layers)].map((model) => [model, blockVariants(model)]));
    let expertLayers = 0;
    this.#layers = layers.map((model) => ({
      model,
      variants: variants.get(model)!,
      expertLayer: model.experts ? expertLayers++ : -1,
    }));
    this.#caps = controlCaps(config);
    this.#rotary = new RotaryTables();
    this.#ones = Parameter.filled('ones', [config.hiddenSize], 1);
  }

  /** Waits for values of parameters that are on their way, until they are there. */
  awaitValues(): void {
    for (const parameter of this.#parameters.values()) valuesOnHost(parameter.values.subarray(0, 1));
  }

  /** Logits of every position, [B·T, V]. */
  logits(batch: TokenBatch): tf.Tensor2D {
    return tf.tidy(() => {
      const { x_NC } = this.#hidden(batch, undefined);
      return this.#logitsOf(x_NC);
    });
  }

  /**
   * Logits of the last position of one sequence of tokens, [V].
   * @param tokens the whole sequence, or what follows the tokens in `cache`
   * @param cache gets the tokens' keys and values; the logits are those of the whole sequence, to rounding
   */
  nextTokenLogits(tokens: Int32Array, cache?: KeyValueCache): Float32Array {
    return this.#sequenceLogits(tokens, tokens.length - 1, cache);
  }

  /** Logits of every one of the tokens that follow those in `cache`, which gets their keys and values, [T·V]. */
  followingLogits(tokens: Int32Array, cache: KeyValueCache): Float32Array {
    return this.#sequenceLogits(tokens, 0, cache);
  }

  /** Logits of the tokens from `begin` on of one sequence, or of what follows in a cache, [(T − begin)·V]. */
  #sequenceLogits(tokens: Int32Array, begin: number, cache: KeyValueCache | undefined): Float32Array {
    cache?.checkRoom(tokens.length);
    const logits_RV = tf.tidy(() => {
      const { x_NC } = this.#hidden({ inputs: tokens, sequences: 1, cache }, undefined);
      const rows_RC = tf.slice2d(x_NC, [begin, 0], [tokens.length - begin, this.config.hiddenSize]);
      return this.#logitsOf(rows_RC);
    });
    cache?.advance(tokens.length);
    const logits = logits_RV.dataSync<'float32'>();
    logits_RV.dispose();
    return logits;
  }

  /** Runs a batch through the layers for an observer's sake; nothing is recorded, and no logits are computed. */
  observe(batch: TokenBatch, observer: ForwardObserver): void {
    tf.tidy(() => {
      this.#hidden({ ...batch, observer }, undefined);
    });
  }

  /**
   * The batch's share of the loss of the global batch: mean cross-entropy plus weighted auxiliary losses.
   * @returns the scalar that gradients are taken of
   */
  loss(request: LossRequest): tf.Scalar {
    return tf.tidy(() => {
      const { x_NC, auxiliaryLosses, expertCounts } = this.#hidden(request, request);
      const scale = 1 / request.totalTokens;
      const crossEntropy = linearCrossEntropy(x_NC, this.#head(), request.targets, {
        ...{ scale, cap: this.#caps.logits },
      });
      const losses = [crossEntropy, ...auxiliaryLosses];
      if (request.onParts) this.#tellParts(losses, expertCounts, scale, request.onParts);
      return tf.addN(losses) as tf.Scalar;
    });
  }

  /** Reads all at once, since whoever reads waits for the device. */
  #tellParts(
    losses: tf.Scalar[],
    expertCounts: tf.Tensor1D[],
    scale: number,
    onParts: NonNullable<LossRequest['onParts']>,
  ): void {
    const all = withoutGradient(() => {
      const counts = expertCounts.map((counts_E) => tf.cast(counts_E, 'float32'));
      return tf.concat1d([...losses.map((loss) => tf.reshape<tf.Rank.R1>(loss, [1])), ...counts]);
    });
    whenRead([all], (values) => {
      const [crossEntropy, ...auxiliary] = values.subarray(0, losses.length);
      let end = losses.length;
      onParts({
        crossEntropySum: crossEntropy! / scale,
        auxiliaryLoss: auxiliary.reduce((sum, loss) => sum + loss, 0),
        expertCounts: expertCounts.map(({ size }) => {
          end += size;
          return Int32Array.from(values.subarray(end - size, end));
        }),
      });
    });
    all.dispose();
  }

  /**
   * Mean cross-entropy of parts of a batch, nats a token, each with all in sight that its tokens see.
   * @param parts ranges of targets, the end excluded; none is empty
   */
  lossesOf(batch: TokenBatch & Pick<LossRequest, 'targets'>, parts: readonly TokenRange[]): number[] {
    const { targets, ...tokens } = batch;
    return tf.tidy(() => {
      const { x_NC } = this.#hidden(tokens, undefined);
      const { logits: cap } = this.#caps;
      return parts.map(({ begin, end }) => {
        const part_NC = tf.slice2d(x_NC, [begin, 0], [end - begin, this.config.hiddenSize]);
        const scale = 1 / (end - begin);
        const loss = linearCrossEntropy(part_NC, this.#head(), targets.slice(begin, end), { scale, cap });
        return loss.dataSync<'float32'>()[0]!;
      });
    });
  }

  /** The normed output of the last layer. */
  #hidden({ inputs, ...rows }: Pick<TokenBatch, 'inputs'> & Rows, request: LossRequest | undefined): Hidden {
    const { numLayers, rmsNormEps, zeroCentredNorms, logitScale } = this.config;
    const auxiliaryLosses: tf.Scalar[] = [];
    const expertCounts: tf.Tensor1D[] = [];
    let x_NC = this.#embedded(inputs);
    for (let layer = 0; layer < numLayers; layer++) {
      const stage = numLayers - layer;
      // The gradient arrives here when the stages above are done with theirs.
      const below_NC = x_NC;
      const output = tf.tidy(() =>
        this.#layer(this.#announce(below_NC, stage, request), layer, rows, request),
      );
      below_NC.dispose();
      x_NC = output.x_NC;
      if (output.auxiliaryLoss) auxiliaryLosses.push(output.auxiliaryLoss);
      if (output.counts_E) expertCounts.push(output.counts_E);
    }
    const last = this.#weight('model.norm');
    const gain = zeroCentredNorms === 'all' ? zeroCentred(last) : last;
    const normed_NC = rmsNorm(this.#announce(x_NC, 0, request), gain, rmsNormEps);
    // The output projection is linear, so that the factor of its results may as well be one of what it is given.
    const scaled_NC = logitScale === undefined ? normed_NC : tf.mul<tf.Tensor2D>(normed_NC, logitScale);
    return { x_NC: scaled_NC, auxiliaryLosses, expertCounts };
  }

  #embedded(inputs: Int32Array): tf.Tensor2D {
    const { embeddingScaling, hiddenSize, rmsNormEps } = this.config;
    const x_NC = embedding(inputs, this.#weight('model.embed_tokens'));
    switch (embeddingScaling) {
      case undefined:
        return x_NC;
      case 'sqrt':
        return tf.mul(x_NC, Math.sqrt(hiddenSize));
      case 'norm':
        return rmsNorm(x_NC, this.#ones, rmsNormEps);
    }
  }

  #announce(x_NC: tf.Tensor2D, stage: number, request: LossRequest | undefined): tf.Tensor2D {
    const announce = request?.onStageGradients;
    return announce ? whenGradient(x_NC, () => announce(stage)) : x_NC;
  }

  #layer(x_NC: tf.Tensor2D, layer: number, rows: Rows, request: LossRequest | undefined): LayerOutput {
    const { variants, model } = this.#layers[layer]!;
    const { rmsNormEps, experts, normPlacement } = model;
    const { controls } = variants;
    const prefix = `model.layers.${layer}`;
    const { observer } = rows;
    const context = this.#context(prefix, layer, observer);
    const isBefore = normPlacement !== 'after';
    const normed = (y_NC: tf.Tensor2D, name: string) =>
      rmsNorm(y_NC, context.gain(`${name}.weight`), rmsNormEps);
    const input_NC = isBefore ? normed(x_NC, 'input_layernorm') : x_NC;
    const mixed_NC = this.#mixed(input_NC, layer, rows, context);
    if (isBefore) forgetUntilGradient(input_NC);
    const attended_NC = isBefore ? mixed_NC : normed(mixed_NC, 'post_attention_layernorm');
    const middle_NC = addResidual(x_NC, applyToBlockOutput(controls, attended_NC, 'attention', context));
    const normed_NC = isBefore ? normed(middle_NC, 'post_attention_layernorm') : middle_NC;
    const add = (y_NC: tf.Tensor2D) => {
      if (isBefore) forgetUntilGradient(normed_NC);
      const own_NC = isBefore ? y_NC : normed(y_NC, 'post_feedforward_layernorm');
      const added_NC = applyToBlockOutput(controls, own_NC, 'feedForward', context);
      observeValues(observer, 'feedForwardOutput', layer, added_NC);
      const sum_NC = addResidual(middle_NC, added_NC);
      observeValues(observer, 'layerOutput', layer, sum_NC);
      return sum_NC;
    };
    if (!experts) return { x_NC: add(this.#feedForward(normed_NC, `${prefix}.mlp`, model.swigluLimit)) };

    const balance = this.#balance(layer, normed_NC.shape[0], request);
    const weights = this.#expertWeights(layer);
    const { y_NC, auxiliaryLoss, counts_E } = expertLayer(
      normed_NC,
      weights,
      experts,
      model,
      balance,
      this.#exchange,
    );
    if (observer?.router) {
      const bias = weights.bias?.hostValues;
      const logits_NE = routerLogits(normed_NC, weights.router, experts);
      whenRead([logits_NE, tf.cast(counts_E, 'float32')], (logits, counts) =>
        observer.router!(layer, logits!, Int32Array.from(counts!), bias),
      );
    }
    return { x_NC: add(y_NC), auxiliaryLoss, counts_E };
  }

  #context(prefix: string, layer: number, observer: ForwardObserver | undefined): BlockContext {
    const { model } = this.#layers[layer]!;
    const parameter = (name: string) => this.#parameter(`${prefix}.${name}`);
    return {
      sizes: model,
      parameter,
      gain: (name) => (model.zeroCentredNorms ? zeroCentred(parameter(name)) : parameter(name)),
      ...(observer?.gate && {
        onGate: (name, scores) =>
          whenRead([scores], (values) => observer.gate!(layer, name, values, scores.shape[0]!)),
      }),
    };
  }

  /** What attention, or the mixer that has its place, makes of the layer's input. */
  #mixed(input_NC: tf.Tensor2D, layer: number, rows: Rows, context: BlockContext): tf.Tensor2D {
    const { model, variants } = this.#layers[layer]!;
    const { sequences, documents, cache, observer } = rows;
    const sequence = input_NC.shape[0] / sequences;
    const active = activeMixer(model);
    if (active) {
      const pass = {
        layer,
        rows: { batch: sequences, sequence, documents },
        state: cache?.stateOf(layer),
        observer,
      };
      return active.mixer.mix(active.settings, input_NC, pass, context);
    }
    const rotary = this.#rotary.following(model, sequence, cache);
    return attentionBlock(
      input_NC,
      variants,
      { layer, sequences, documents, cache, observer, rotary },
      context,
    );
  }

  #feedForward(x_NC: tf.Tensor2D, prefix: string, limit: number | undefined): tf.Tensor2D {
    return gatedFeedForward(
      x_NC,
      this.#weight(`${prefix}.gate_up_proj`),
      this.#weight(`${prefix}.down_proj`),
      limit,
    );
  }

  #expertWeights(layer: number) {
    const prefix = `model.layers.${layer}.mlp`;
    const isBalanced = this.#layers[layer]!.model.experts?.balanceBias !== undefined;
    const shared = {
      gateUp: this.#parameters.get(`${prefix}.shared_expert.gate_up_proj.weight`),
      down: this.#parameters.get(`${prefix}.shared_expert.down_proj.weight`),
      gate: this.#parameters.get(`${prefix}.shared_expert_gate.weight`),
    };
    return {
      router: this.#weight(`${prefix}.gate`),
      bias: isBalanced ? this.#parameter(balanceBiasName(layer)) : undefined,
      gateUp: this.#weight(`${prefix}.experts.gate_up_proj`),
      down: this.#weight(`${prefix}.experts.down_proj`),
      ...(shared.gateUp && shared.down
        ? { shared: { gateUp: shared.gateUp, down: shared.down, gate: shared.gate } }
        : {}),
    };
  }

  #balance(layer: number, tokens: number, request: LossRequest | undefined): BalanceContext {
    const { model, expertLayer } = this.#layers[layer]!;
    const experts = model.experts!.count;
    const loads = request?.expertLoads[expertLayer] ?? new Float32Array(experts).fill(1 / experts);
    return { loads, totalTokens: request?.totalTokens ?? tokens };
  }

  #logitsOf(x_NC: tf.Tensor2D): tf.Tensor2D {
    return softcap(linear(x_NC, this.#head(), 'results'), this.#caps.logits);
  }

  #head(): Parameter {
    return this.#weight(this.config.tieWordEmbeddings ? 'model.embed_tokens' : 'lm_head');
  }

  #weight(module: string): Parameter {
    return this.#parameter(`${module}.weight`);
  }

  #parameter(name: string): Parameter {
    const parameter = this.#parameters.get(name);
    if (!parameter) throw new Error(`The model has no parameter ${name}.`);
    return parameter;
  }
}
