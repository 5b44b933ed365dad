/**
 * A family of models as Hugging Face has them: what its `config.json` says, and how its tensors are called and cut. Each is one
 * file beside this one and a line in `index.ts`. What a family computes is said by the model's configuration alone.
 */

import type { ModelConfig } from '../../config.ts';
import type { LayerModel } from '../../layers.ts';
import type { HuggingFaceTensor } from '../fileTensor.ts';
import type { KeyRule } from '../keyRules.ts';
import type { HuggingFaceLayout, PlainLayout } from '../layouts.ts';

export type Json = Readonly<Record<string, unknown>>;

/** The layouts that a family has each for itself. */
export type FamilyLayout = Exclude<HuggingFaceLayout, PlainLayout>;

/** Reading one `config.json` whose keys were judged by their names. */
export interface Reading {
  /** What to call the file in messages. */
  readonly source: string;
  /** Keys to pass over, as `rope_parameters.key`. */
  readonly ignore: readonly string[];
  /** Gets the keys that were passed over. */
  readonly ignored: Record<string, unknown>;
  /** Gets a sentence for each thing that cannot be had. */
  readonly problems: string[];
}

/** A tensor of the files that something goes into, behind what went there before. */
export interface TensorPlace {
  /** Within the layer, or of the whole model. */
  readonly name: string;
  /** Where it is not that of the tensor that goes there. */
  readonly shape?: readonly number[];
}

export interface TensorNames {
  /**
   * Where the gate after attention lies whose rows are in our `q_proj`: behind the queries of its head, or in a tensor of
   * its own of this name within the layer.
   */
  readonly gate: 'behind-queries' | { readonly tensor: string };
  /** Where a tensor of a layer goes, by our name within the layer. */
  readonly ofLayer: (name: string, layer: LayerModel) => string | TensorPlace;
  /**
   * Tensors of a layer that several of ours go into, cut and mixed; those go nowhere else then.
   * @param prefix of the layer's tensors with us
   */
  readonly mixed?: (layer: LayerModel, prefix: string) => readonly HuggingFaceTensor[];
  /** Where tensors of no layer go, by their whole names; those that are not here are called as ours. */
  readonly ofModel?: Readonly<Record<string, string>>;
  /** What stands before the names of everything but the output projection, in place of `model.`; the first is written. */
  readonly prefixes: readonly [string, ...string[]];
}

/** A model as a layout has it, where it can say the same otherwise. */
export interface Adaptation {
  /** What the layout says, which computes the same. */
  readonly model: ModelConfig;
  /** What is written otherwise, and whether that is exact: a sentence each. */
  readonly notes: readonly string[];
  /** The tensors that are written, from those of the model as it is. */
  readonly tensors: (tensors: readonly HuggingFaceTensor[]) => HuggingFaceTensor[];
}

export interface Family {
  readonly layout: FamilyLayout;
  /** The layout with a tensor for each matrix of each expert, where there are both. */
  readonly perExpertLayout?: FamilyLayout;
  /** `model_type`s of `config.json`, the one that is written first. */
  readonly modelTypes: readonly [string, ...string[]];
  /** `model_type`s of models that see or hear, too, and have one of these as their `text_config`. */
  readonly wrapperTypes: readonly string[];
  /** Classes of `architectures`, the one that is written first. */
  readonly architectures: readonly [string, ...string[]];
  /** Rules of its keys; keys that are not here are judged as for all layouts. */
  readonly keys: Readonly<Record<string, KeyRule>>;
  /** The model's configuration as it may be written in YAML, and the longest sequence that the model is meant for. */
  readonly read: (config: Json, reading: Reading) => { readonly model: object; readonly maxLength: number };
  /** The keys of `config.json` that say what a model has. What they cannot say, reading them shows. */
  readonly write: (model: ModelConfig) => Json;
  /** How a model that the layout cannot say as it is can be said; undefined for one that needs nothing. */
  readonly adapt?: (model: ModelConfig) => Adaptation | undefined;
  readonly names: (layout: HuggingFaceLayout) => TensorNames;
  /** What a tensor that the model has no use for belongs to, if it may be left out: `layers that predict further tokens`. */
  readonly leftOut?: (name: string, model: ModelConfig) => string | undefined;
}
