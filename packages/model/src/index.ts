export * from './activations.ts';
export * from './config.ts';
export { ControlConfig, extraChannels } from './controls/index.ts';
export * from './count.ts';
export { validateCudaSizes } from './cudaSizes.ts';
export * from './decoder.ts';
export * from './exchange.ts';
export * from './gates/index.ts';
export * from './headRows.ts';
export * from './huggingface/index.ts';
export * from './keyValueCache.ts';
export {
  attentionLayers,
  expertLayers,
  hasRecurrence,
  type LayerModel,
  layerModels,
  mostAttentionHeads,
} from './layers.ts';
export { LayerKindConfig, LayersConfig, layerKinds } from './layersConfig.ts';
export { activeMixer, MixerConfig, type MixerSettings } from './mixers/index.ts';
export type { RulePass } from './mixers/mixer.ts';
export * from './nextTokens.ts';
export * from './observer.ts';
export * from './parameters.ts';
export * from './rope.ts';
export * from './sampling.ts';
export * from './scale.ts';
export * from './widths.ts';
