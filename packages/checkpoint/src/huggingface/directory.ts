/** Reading a Hugging Face directory: its configuration as a `ModelConfig`, its weights as the model's logical tensors. */

import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SluiceError } from '@sluice/core';
import {
  type HuggingFaceLayout,
  huggingFaceTensors,
  importModelConfig,
  layoutOfNames,
  type ModelConfig,
} from '@sluice/model';
import { MANIFEST_NAME } from '../manifest.ts';
import { SafetensorsFile } from '../safetensorsReader.ts';
import { CONFIG_NAME, readJson, weightFiles } from './weightFiles.ts';

/** Where a logical tensor lies. */
interface Place {
  readonly file: SafetensorsFile;
  /** Name of the tensor in the file, which may hold other logical tensors too. */
  readonly stored: string;
  /** Elements before it in there. */
  readonly begin: number;
  readonly size: number;
}

/** Whether a path is a Hugging Face directory, and no checkpoint of ours. */
export function isHuggingFaceDirectory(path: string): boolean {
  return existsSync(join(path, CONFIG_NAME)) && !existsSync(join(path, MANIFEST_NAME));
}

const FLOAT_TYPES: readonly string[] = ['F32', 'F16', 'BF16'];

/** A Hugging Face directory that is open for reading. */
export class HuggingFaceDirectory {
  readonly directory: string;
  /** The content of `config.json`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly model: ModelConfig;
  readonly layout: HuggingFaceLayout;
  /** Longest sequence that the model is meant for, in tokens. */
  readonly maxLength: number;
  readonly #files: readonly SafetensorsFile[];
  readonly #places: ReadonlyMap<string, Place>;

  private constructor(
    directory: string,
    config: Readonly<Record<string, unknown>>,
    files: readonly SafetensorsFile[],
  ) {
    const path = join(directory, CONFIG_NAME);
    const { model, layout, maxLength } = importModelConfig(config, path);
    const byName = new Map(files.flatMap((file) => [...file.tensors.keys()].map((name) => [name, file])));
    this.directory = directory;
    this.config = config;
    this.model = model;
    this.layout = layoutOfNames(layout, byName.keys());
    this.maxLength = maxLength;
    this.#files = files;
    this.#places = placesOf(directory, model, this.layout, byName);
  }

  /**
   * Opens the files and compares what they hold with what the configuration asks for. No weights are read yet.
   * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_HF_CONFIG, SLUICE_E_HF_UNSUPPORTED,
   *   SLUICE_E_HF_PYTORCH_FILE, SLUICE_E_HF_TENSORS with every difference, SLUICE_E_SAFETENSORS_INVALID
   */
  static async open(directory: string): Promise<HuggingFaceDirectory> {
    const config = readJson(join(directory, CONFIG_NAME));
    // What the configuration asks for in vain is worth more to know than what is wrong with the weights.
    importModelConfig(config, join(directory, CONFIG_NAME));
    const files: SafetensorsFile[] = [];
    try {
      for (const path of await weightFiles(directory)) files.push(await SafetensorsFile.open(path));
      return new HuggingFaceDirectory(directory, config, files);
    } catch (error) {
      await Promise.allSettled(files.map((file) => file.close()));
      throw error;
    }
  }

  /**
   * Reads elements of a flattened logical tensor, exactly, whatever type they are stored in.
   * @param name one of `modelTensors(model)`
   * @param target gets the elements from `begin` on
   */
  async read(name: string, target: Float32Array, begin = 0): Promise<void> {
    const place = this.#places.get(name);
    if (!place || begin + target.length > place.size) throw new Error(`No such part of ${name}.`);
    await place.file.readFloats(place.stored, target, place.begin + begin);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#files.map((file) => file.close()));
  }
}

/** Finds every logical tensor in the files. */
function placesOf(
  directory: string,
  model: ModelConfig,
  layout: HuggingFaceLayout,
  files: ReadonlyMap<string, SafetensorsFile>,
): Map<string, Place> {
  const places = new Map<string, Place>();
  const faults: string[] = [];
  const wanted = new Set<string>();
  for (const { name, shape, parts } of huggingFaceTensors(model, layout)) {
    wanted.add(name);
    const file = files.get(name);
    const fault = faultOf(file, name, shape);
    if (fault !== undefined) faults.push(fault);
    let begin = 0;
    for (const { name: part, size } of parts) {
      if (file) places.set(part, { file, stored: name, begin, size });
      begin += size;
    }
  }
  for (const name of files.keys())
    if (!wanted.has(name) && !isRedundant(name, model)) faults.push(`${name} is of no use to the model`);
  if (faults.length === 0) return places;
  const shown = faults.slice(0, 10);
  if (faults.length > shown.length) shown.push(`and ${faults.length - shown.length} more`);
  throw new SluiceError('SLUICE_E_HF_TENSORS', `${directory}: ${shown.join('; ')}.`, {
    details: { directory, layout, faults },
  });
}

function faultOf(
  file: SafetensorsFile | undefined,
  name: string,
  shape: readonly number[],
): string | undefined {
  const info = file?.tensors.get(name);
  if (!file || !info) return `${name} is missing`;
  if (info.shape.join() !== shape.join())
    return `${name} has the shape [${info.shape.join(', ')}], config.json makes it [${shape.join(', ')}]`;
  if (!FLOAT_TYPES.includes(info.dtype))
    return `${name} in ${basename(file.path)} is of type ${info.dtype}, not one of ${FLOAT_TYPES.join(', ')}`;
  return undefined;
}

/** Tensors that say again what others say: a tied output projection, the rotary embedding's frequencies. */
function isRedundant(name: string, model: ModelConfig): boolean {
  return (model.tieWordEmbeddings && name === 'lm_head.weight') || name.endsWith('.rotary_emb.inv_freq');
}
