/**
 * The layers of a model one by one. Whatever computes a layer is given the layer's own model (`layerModels`), in which nothing is
 * left to look up.
 */

import type { ModelConfig } from './config.ts';
import { blockControls } from './controls/index.ts';
import { type LayerKindConfig, layerKinds } from './layersConfig.ts';
import { activeMixer } from './mixers/index.ts';

/**
 * A layer as if all layers of its model were like it: without `layers`, and with either `intermediateSize` or `experts`.
 * Where a mixer has the place of attention, it has neither gates nor controls of that. Of a model whose layers are all alike, and
 * have attention, it is the model itself.
 */
export type LayerModel = ModelConfig;

const resolved = new WeakMap<ModelConfig, readonly LayerModel[]>();

/** The layers of a model, from the first to the last. */
export function layerModels(model: ModelConfig): readonly LayerModel[] {
  const known = resolved.get(model);
  if (known) return known;
  const made = resolveLayers(model);
  resolved.set(model, made);
  return made;
}

function resolveLayers(model: ModelConfig): readonly LayerModel[] {
  const { layers, numLayers } = model;
  if (!layers) return Array<LayerModel>(numLayers).fill(withoutAttention(model));
  const kinds = new Map(Object.entries(layers.kinds).map(([name, kind]) => [name, layerOf(model, kind)]));
  return layerKinds(model).map((name) => kinds.get(name)!);
}

function layerOf(model: ModelConfig, { feedForward, ...changes }: LayerKindConfig): LayerModel {
  const { layers, intermediateSize, experts, ...common } = model;
  const isDense = (feedForward ?? (experts ? 'experts' : 'dense')) === 'dense';
  return withoutAttention({
    ...common,
    ...withoutUndefined(changes),
    ...(isDense ? { intermediateSize } : { experts }),
  } as LayerModel);
}

/** A layer without what concerns attention alone, where it has a mixer in its place. */
function withoutAttention(layer: LayerModel): LayerModel {
  if (!activeMixer(layer)) return layer;
  const { keyValueLatent, ...rest } = layer;
  return { ...rest, gates: [], controls: blockControls(layer.controls) };
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as T;
}

/** The layers that have experts, in order, by their places in the model. */
export function expertLayers(model: ModelConfig): number[] {
  return layerModels(model).flatMap(({ experts }, layer) => (experts ? [layer] : []));
}

/** The layers that have attention, in order, by their places in the model. */
export function attentionLayers(model: ModelConfig): number[] {
  return layerModels(model).flatMap((own, layer) => (activeMixer(own) ? [] : [layer]));
}

/** Whether a layer's mixer is a delta rule, whose state decays from token to token. */
export function hasRecurrence(layer: LayerModel): boolean {
  const kind = activeMixer(layer)?.settings.kind;
  return kind === 'gated-delta-net' || kind === 'kimi-delta-attention';
}

/** Most query heads that a layer has. */
export function mostAttentionHeads(model: ModelConfig): number {
  const models = layerModels(model);
  return Math.max(0, ...attentionLayers(model).map((layer) => models[layer]!.numAttentionHeads));
}
