/** Reading a Hugging Face directory: its configuration as a `ModelConfig`, its weights as the model's logical tensors. */

import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SluiceError } from '@sluice/core';
import {
  familyOf,
  type HuggingFaceLayout,
  huggingFaceTensors,
  type ImportConfigOptions,
  type ImportedModel,
  importModelConfig,
  layoutOfNames,
  leftOutOf,
  type ModelConfig,
  withPrefix,
} from '@sluice/model';
import { MANIFEST_NAME } from '../manifest.ts';
import { SafetensorsFile } from '../safetensorsReader.ts';
import { refuseLfsPointerAt } from './lfsPointer.ts';
import { CONFIG_NAME, readJson, type WeightFiles, weightFiles } from './weightFiles.ts';

/** Where elements [begin, end) of a logical tensor lie. */
interface Place {
  readonly file: SafetensorsFile;
  /** Name of the tensor in the file, which may hold other things too. */
  readonly stored: string;
  /** Elements before them in there. */
  readonly storedBegin: number;
  readonly begin: number;
  readonly end: number;
}

/** Whether a path is a Hugging Face directory, and no checkpoint of ours. */
export function isHuggingFaceDirectory(path: string): boolean {
  return existsSync(join(path, CONFIG_NAME)) && !existsSync(join(path, MANIFEST_NAME));
}

/** The types that 32-bit floats hold exactly; each tensor has its own. */
const FLOAT_TYPES: readonly string[] = ['F32', 'F16', 'BF16'];

const EMBEDDING = 'model.embed_tokens.weight';
const OUTPUT = 'lm_head.weight';

/** A Hugging Face directory that is open for reading. */
export class HuggingFaceDirectory {
  readonly directory: string;
  /** The content of `config.json`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly model: ModelConfig;
  readonly layout: HuggingFaceLayout;
  /** Longest sequence that the model is meant for, in tokens. */
  readonly maxLength: number;
  /** Keys of `config.json` that were passed over because that was asked for, with their values. */
  readonly ignoredKeys: Readonly<Record<string, unknown>>;
  /** What a person should know of how the files were read. */
  readonly notes: readonly string[];
  readonly #files: readonly SafetensorsFile[];
  /** For each logical tensor, its parts in their order. */
  readonly #places: ReadonlyMap<string, readonly Place[]>;
  /** What the output projection is called in the files, if it is in them. */
  readonly #output: string;

  private constructor(
    directory: string,
    config: Readonly<Record<string, unknown>>,
    { model, layout, maxLength, ignoredKeys, notes: ofConfig }: ImportedModel,
    files: readonly SafetensorsFile[],
    stored: StoredTensors,
    { indexed, notes }: WeightFiles,
  ) {
    this.directory = directory;
    this.config = config;
    this.model = model;
    this.layout = layoutOfNames(layout, stored.byName.keys());
    this.maxLength = maxLength;
    this.ignoredKeys = ignoredKeys;
    this.#files = files;
    const { places, leftOut, output } = placesOf(directory, model, this.layout, stored, indexed);
    this.#places = places;
    this.#output = output;
    this.notes = [...notes, ...ofConfig, ...leftOut];
  }

  /**
   * Opens the files and compares what they hold with what the configuration asks for. No weights are read yet, but for a
   * tied output projection that is stored all the same.
   * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_HF_CONFIG, SLUICE_E_HF_UNSUPPORTED,
   *   SLUICE_E_HF_PYTORCH_FILE, SLUICE_E_HF_LFS_POINTER, SLUICE_E_HF_TENSORS with every difference,
   *   SLUICE_E_SAFETENSORS_INVALID
   */
  static async open(directory: string, options: ImportConfigOptions = {}): Promise<HuggingFaceDirectory> {
    const config = readJson(join(directory, CONFIG_NAME));
    // What the configuration asks for in vain is worth more to know than what is wrong with the weights.
    const imported = importModelConfig(config, join(directory, CONFIG_NAME), options);
    const files: SafetensorsFile[] = [];
    try {
      const chosen = await weightFiles(directory);
      for (const path of chosen.paths) {
        await refuseLfsPointerAt(path);
        files.push(await SafetensorsFile.open(path));
      }
      const stored = new StoredTensors(files);
      const opened = new HuggingFaceDirectory(directory, config, imported, files, stored, chosen);
      if (imported.model.tieWordEmbeddings) await opened.#refuseOtherOutput(stored);
      return opened;
    } catch (error) {
      await Promise.allSettled(files.map((file) => file.close()));
      throw error;
    }
  }

  /** An output projection that is tied and stored too must be the embedding: versions of `transformers` take one or the other. */
  async #refuseOtherOutput({ byName }: StoredTensors): Promise<void> {
    const [embedding] = this.#places.get(EMBEDDING)!;
    const other = byName.get(this.#output);
    if (!other || (await sameFloats([embedding!.file, embedding!.stored], [other, this.#output]))) return;
    throw tensorFaults(this.directory, [
      `${this.#output} differs from ${embedding!.stored}, although config.json ties them (tie_word_embeddings)`,
    ]);
  }

  /**
   * Reads elements of a flattened logical tensor, exactly, whatever type they are stored in.
   * @param name one of `modelTensors(model)`
   * @param target gets the elements from `begin` on
   * @throws SLUICE_E_HF_NON_FINITE
   */
  async read(name: string, target: Float32Array, begin = 0): Promise<void> {
    const places = this.#places.get(name);
    const end = begin + target.length;
    if (!places || end > places.at(-1)!.end) throw new Error(`No such part of ${name}.`);
    for (const place of places) {
      const [from, to] = [Math.max(begin, place.begin), Math.min(end, place.end)];
      if (from < to) await readPlace(place, from, target.subarray(from - begin, to - begin));
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#files.map((file) => file.close()));
  }
}

/** @param target gets elements of the logical tensor from `from` on, all of them within the place */
async function readPlace(
  { file, stored, storedBegin, begin }: Place,
  from: number,
  target: Float32Array,
): Promise<void> {
  const first = storedBegin + from - begin;
  await file.readFloats(stored, target, first);
  const at = firstNonFinite(target);
  if (at === -1) return;
  throw new SluiceError(
    'SLUICE_E_HF_NON_FINITE',
    `Element ${first + at} of ${stored} in ${file.path} is ${target[at]}.`,
    { details: { path: file.path, tensor: stored, element: first + at } },
  );
}

/** What the files hold, by name. */
class StoredTensors {
  readonly byName = new Map<string, SafetensorsFile>();
  /** A sentence for each tensor that is in more than one file. */
  readonly doubled: string[] = [];

  constructor(files: readonly SafetensorsFile[]) {
    for (const file of files) {
      for (const name of file.tensors.keys()) {
        const other = this.byName.get(name);
        if (other) this.doubled.push(`${name} is in both ${basename(other.path)} and ${basename(file.path)}`);
        else this.byName.set(name, file);
      }
    }
  }
}

/** Finds every logical tensor in the files. @returns besides, a sentence for each part of the files that is left out */
function placesOf(
  directory: string,
  model: ModelConfig,
  layout: HuggingFaceLayout,
  { byName, doubled }: StoredTensors,
  indexed: readonly string[],
): { places: Map<string, Place[]>; leftOut: string[]; output: string } {
  const places = new Map<string, Place[]>();
  const faults: string[] = [...doubled];
  const wanted = new Set<string>();
  const prefix = prefixOf(layout, byName);
  const nameOf = (written: string) => (prefix === undefined ? written : prefixed(written, layout, prefix));
  const output = nameOf(OUTPUT);
  for (const { name: written, shape, runs } of huggingFaceTensors(model, layout)) {
    const name = nameOf(written);
    wanted.add(name);
    const file = byName.get(name);
    const fault = faultOf(file, name, shape);
    if (fault !== undefined) faults.push(fault);
    let storedBegin = 0;
    for (const { name: part, begin, size } of runs) {
      const place = { file: file!, stored: name, storedBegin, begin, end: begin + size };
      if (file) places.set(part, [...(places.get(part) ?? []), place]);
      storedBegin += size;
    }
  }
  for (const ofOne of places.values()) ofOne.sort((a, b) => a.begin - b.begin);
  const leftOut = new Map<string, string[]>();
  for (const name of byName.keys()) {
    if (wanted.has(name) || (model.tieWordEmbeddings && name === output) || isFrequencies(name)) continue;
    const what = leftOutOf(layout, name, model);
    if (what === undefined) faults.push(`${name} is of no use to the model`);
    else leftOut.set(what, [...(leftOut.get(what) ?? []), name]);
  }
  for (const name of indexed)
    if (!wanted.has(name) && !byName.has(name)) faults.push(`the index names ${name}, which is in no file`);
  if (faults.length > 0) throw tensorFaults(directory, faults);
  const notes = [...leftOut].map(
    ([what, names]) => `left out: ${what} (${names.length} tensors, such as ${names[0]})`,
  );
  return { places, leftOut: notes, output };
}

/** What stands in these files in place of `model.`, where a family has several things that may. */
function prefixOf(
  layout: HuggingFaceLayout,
  byName: ReadonlyMap<string, SafetensorsFile>,
): string | undefined {
  const prefixes = familyOf(layout)?.names(layout).prefixes;
  return prefixes?.find((prefix) => byName.has(`${prefix}embed_tokens.weight`));
}

/** A name as it is written, with another prefix. */
function prefixed(written: string, layout: HuggingFaceLayout, prefix: string): string {
  const [usual] = familyOf(layout)!.names(layout).prefixes;
  const isInModel = usual === '' ? !written.startsWith('lm_head.') : written.startsWith(usual);
  return withPrefix(isInModel ? `model.${written.slice(usual.length)}` : written, prefix);
}

function tensorFaults(directory: string, faults: readonly string[]): SluiceError {
  const shown = faults.slice(0, 10);
  if (faults.length > shown.length) shown.push(`and ${faults.length - shown.length} more`);
  return new SluiceError('SLUICE_E_HF_TENSORS', `${directory}: ${shown.join('; ')}.`, {
    details: { directory, faults },
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

/** Whether a tensor holds the rotary embedding's frequencies, which config.json says too. */
function isFrequencies(name: string): boolean {
  return /^model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/.test(name);
}

function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

type Stored = readonly [file: SafetensorsFile, name: string];

/** Whether two tensors hold the same numbers, whatever types they are stored in. */
async function sameFloats([fileA, a]: Stored, [fileB, b]: Stored): Promise<boolean> {
  const [infoA, infoB] = [fileA.tensors.get(a)!, fileB.tensors.get(b)!];
  if (infoA.shape.join() !== infoB.shape.join() || !FLOAT_TYPES.includes(infoB.dtype)) return false;
  const size = infoA.shape.reduce((product, length) => product * length, 1);
  for (let begin = 0; begin < size; begin += COMPARED_ELEMENTS) {
    const length = Math.min(COMPARED_ELEMENTS, size - begin);
    const [valuesA, valuesB] = [new Float32Array(length), new Float32Array(length)];
    await Promise.all([fileA.readFloats(a, valuesA, begin), fileB.readFloats(b, valuesB, begin)]);
    if (valuesA.some((value, i) => value !== valuesB[i])) return false;
  }
  return true;
}

/** Elements of each of two tensors that are compared at a time. */
const COMPARED_ELEMENTS = 1 << 20;
