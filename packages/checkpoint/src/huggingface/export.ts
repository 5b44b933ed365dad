/** From a checkpoint of ours to a Hugging Face directory: `config.json`, safetensors with an index, the tokenizer. */

import { join } from 'node:path';
import { SluiceError, writeFileAtomic } from '@sluice/core';
import { type DataConfig, loadTokenizer, tokenId, tokenizerBeginningWith } from '@sluice/data';
import {
  adaptationNotes,
  defaultLayout,
  exportModelConfig,
  type HuggingFaceLayout,
  type HuggingFaceTensor,
  huggingFaceTensors,
} from '@sluice/model';
import { roundToHalf } from '../halfPrecision.ts';
import type { Manifest } from '../manifest.ts';
import { type CheckpointReader, openCheckpoint } from '../reader.ts';
import { ITEM_BYTES, type TensorData, writeSafetensors } from '../safetensors.ts';
import { numElements, tensorsOfKind } from '../tensors.ts';
import type { ImportedState } from './import.ts';
import { fillOutputDirectory } from './outputDirectory.ts';
import {
  copyTokenizer,
  type LocatedTokenizer,
  locateTokenizer,
  TOKENIZER_NAME,
  tokenKeysOf,
} from './tokenizerFiles.ts';
import { CONFIG_NAME, INDEX_NAME, SINGLE_NAME } from './weightFiles.ts';
import { weightsOfCheckpoint } from './weightSource.ts';

/** What weights can be written as, and what PyTorch and safetensors call it. */
export const EXPORT_TYPES = {
  f32: { torch: 'float32', stored: 'F32' },
  bf16: { torch: 'bfloat16', stored: 'BF16' },
  f16: { torch: 'float16', stored: 'F16' },
} as const;

export type ExportType = keyof typeof EXPORT_TYPES;

export interface ExportRequest {
  /** Directory of the checkpoint. */
  readonly checkpoint: string;
  /** A new or empty directory. */
  readonly target: string;
  readonly dtype: ExportType;
  /** The one that the checkpoint was imported from, or that says the most of the model, when left out. */
  readonly layout?: HuggingFaceLayout | undefined;
  /** Most bytes of weights in one file, where a single tensor does not have more. */
  readonly shardBytes?: number;
  /** Told the parameters written so far and in all. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface ExportSummary {
  readonly layout: HuggingFaceLayout;
  readonly dtype: ExportType;
  readonly parameters: number;
  /** Names of the files of weights. */
  readonly weightFiles: readonly string[];
  /** Names of the tokenizer's files; none when the checkpoint's tokenizer is not to be found. */
  readonly tokenizerFiles: readonly string[];
  /** What of the model is written otherwise than it is, with the same meaning, and whether that is exact. */
  readonly notes: readonly string[];
}

/** The default of `transformers`. */
const SHARD_BYTES = 5e9;

/** Elements that are read and rounded at a time; a multiple of the blocks that a checkpoint is hashed by. */
const CHUNK_ELEMENTS = 1 << 20;

/**
 * Writes a checkpoint's weights in a Hugging Face layout. `config.json` comes last, so what is cut off by a crash is not
 * mistaken for a model. The files of a Hugging Face model that the weights came from are written as they were.
 * @throws SLUICE_E_HF_UNSUPPORTED for what the layout cannot say; SLUICE_E_HF_RANGE for a weight that the type cannot
 *   hold; SLUICE_E_TOKENIZER_CHANGED; SLUICE_E_CONFIG_INVALID, SLUICE_E_CHECKPOINT_…; SLUICE_E_OUTPUT_EXISTS, SLUICE_E_DISK_FULL,
 *   SLUICE_E_FILE_UNWRITABLE; the signal's reason when it is aborted: then nothing is left
 */
export async function exportHuggingFace(request: ExportRequest): Promise<ExportSummary> {
  const { checkpoint, target, dtype } = request;
  const reader = await openCheckpoint(checkpoint);
  try {
    const { manifest } = reader;
    const { model } = weightsOfCheckpoint(reader);
    const { imported } = manifest.state as unknown as Partial<ImportedState>;
    const layout = request.layout ?? imported?.layout ?? defaultLayout(model);
    const config = exportModelConfig(model, {
      layout,
      maxLength: maxLengthOf(manifest),
      torchDtype: EXPORT_TYPES[dtype].torch,
    });
    const parameters = tensorsOfKind(manifest.tensors, manifest.kinds, 'parameter').reduce(
      (sum, { shape }) => sum + numElements(shape),
      0,
    );
    const files = await fillOutputDirectory(target, async () => {
      const weightFiles = await writeWeights(reader, huggingFaceTensors(model, layout), request);
      const tokenizer = await findTokenizer(checkpoint, manifest);
      const tokenizerFiles = tokenizer ? Object.keys(await copyTokenizer(tokenizer.folder, target)) : [];
      const tokens = imported
        ? tokenKeysOf(imported.config)
        : (tokenizer?.tokenKeys ??
          (tokenizer?.path ? await writeTokenKeys(tokenizer.path, target, manifest) : {}));
      await writeFileAtomic(join(target, CONFIG_NAME), encodeConfig({ ...config, ...tokens }));
      return { weightFiles, tokenizerFiles };
    });
    return { layout, dtype, parameters, ...files, notes: adaptationNotes(model, layout) };
  } finally {
    await reader.close();
  }
}

/** That of the imported model, or the length of the sequences of training. */
function maxLengthOf({ config, state }: Manifest): number {
  const { imported } = state as unknown as Partial<ImportedState>;
  return imported?.maxLength ?? (config as { data: { sequenceLength: number } }).data.sequenceLength;
}

/** A checkpoint may be all that is left of a run; then the weights are exported alone. */
async function findTokenizer(checkpoint: string, manifest: Manifest): Promise<LocatedTokenizer | undefined> {
  try {
    return await locateTokenizer(checkpoint, manifest);
  } catch (error) {
    if (error instanceof SluiceError && error.code !== 'SLUICE_E_TOKENIZER_CHANGED') return undefined;
    throw error;
  }
}

/**
 * What the files are to say of the tokens that begin and end the texts of a model of ours: `tokenizer.json` puts the beginning before
 * every text, which is what `transformers` goes by.
 * @returns the same for `config.json`
 */
async function writeTokenKeys(
  path: string,
  target: string,
  { config }: Pick<Manifest, 'config'>,
): Promise<Record<string, unknown>> {
  const tokenizer = loadTokenizer(path);
  const { data } = config as { data: Partial<Pick<DataConfig, 'documents' | 'beginning'>> };
  const endOfText = tokenizer.decode([tokenizer.endOfTextId]);
  // Where nothing else begins a text, the end of the one before it does, unless the model has never seen that.
  const token = data.beginning ?? (data.documents === 'separate' ? undefined : endOfText);
  const beginning = token === undefined ? undefined : { token, id: tokenId(path, token) };
  const content = tokenizerBeginningWith(path, beginning);
  if (content !== undefined) await writeFileAtomic(join(target, TOKENIZER_NAME), content);
  await writeJson(join(target, 'tokenizer_config.json'), {
    tokenizer_class: 'PreTrainedTokenizerFast',
    ...(beginning && { bos_token: beginning.token }),
    eos_token: endOfText,
    add_bos_token: beginning !== undefined,
  });
  return {
    ...(beginning && { bos_token_id: beginning.id }),
    eos_token_id: tokenizer.endOfTextId,
  };
}

/** @returns names of the files */
async function writeWeights(
  reader: CheckpointReader,
  tensors: readonly HuggingFaceTensor[],
  { target, dtype, shardBytes = SHARD_BYTES, onProgress, signal }: ExportRequest,
): Promise<string[]> {
  const { stored } = EXPORT_TYPES[dtype];
  const bytesOf = (tensor: HuggingFaceTensor) => elementsOf(tensor) * ITEM_BYTES[stored];
  const groups = groupsOf(tensors, bytesOf, shardBytes);
  const total = tensors.reduce((sum, tensor) => sum + elementsOf(tensor), 0);
  let done = 0;
  const advance = (elements: number) => {
    done += elements;
    onProgress?.(done, total);
    signal?.throwIfAborted();
  };
  const number = (value: number) => String(value).padStart(5, '0');
  const names = groups.map((_, i) =>
    groups.length === 1 ? SINGLE_NAME : `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`,
  );
  for (const [i, group] of groups.entries()) {
    const data = group.map(
      (tensor): TensorData => ({
        name: tensor.name,
        dtype: stored,
        shape: tensor.shape,
        values: () => readParts(reader, tensor, dtype, advance),
      }),
    );
    await writeSafetensors(join(target, names[i]!), data, { metadata: { format: 'pt' } });
  }
  if (groups.length > 1) {
    const weightMap = groups.flatMap((group, i) => group.map(({ name }) => [name, names[i]!] as const));
    await writeJson(join(target, INDEX_NAME), {
      metadata: { total_size: tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0) },
      weight_map: Object.fromEntries(weightMap),
    });
  }
  return names;
}

function elementsOf({ shape }: HuggingFaceTensor): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** Neighbouring tensors, as many as a file takes. */
function groupsOf<T>(items: readonly T[], bytesOf: (item: T) => number, most: number): T[][] {
  const groups: T[][] = [];
  let room = -1;
  for (const item of items) {
    if (groups.length === 0 || bytesOf(item) > room) {
      groups.push([]);
      room = most;
    }
    groups.at(-1)!.push(item);
    room -= bytesOf(item);
  }
  return groups;
}

/** A tensor's values in the type that they are written in, chunk after chunk. */
async function* readParts(
  reader: CheckpointReader,
  tensor: HuggingFaceTensor,
  dtype: ExportType,
  advance: (elements: number) => void,
): AsyncGenerator<ArrayBufferView> {
  const written = (values: Float32Array) => (dtype === 'f32' ? values : halves(values, dtype, tensor.name));
  const { runs, constant, factor = 1, shift = 0 } = tensor;
  if (constant !== undefined) yield written(new Float32Array(elementsOf(tensor)).fill(constant));
  for (const { name, begin: first, size } of runs) {
    for (let begin = first; begin < first + size; begin += CHUNK_ELEMENTS) {
      const end = Math.min(first + size, begin + CHUNK_ELEMENTS);
      const values = new Float32Array(end - begin);
      await reader.readRange('parameter', name, begin, end, values);
      if (factor !== 1 || shift !== 0) {
        for (const [i, value] of values.entries()) values[i] = factor * value + shift;
      }
      yield written(values);
      advance(end - begin);
    }
  }
}

function halves(values: Float32Array, dtype: 'bf16' | 'f16', name: string): Uint16Array {
  const { bits, overflow } = roundToHalf(values, EXPORT_TYPES[dtype].stored);
  if (overflow < 0) return bits;
  throw new SluiceError('SLUICE_E_HF_RANGE', `${name} holds ${values[overflow]}, which ${dtype} cannot.`, {
    details: { tensor: name, value: values[overflow], dtype },
  });
}

/** Keys whose numbers `transformers` wants written with a point: it warns of whole ones, or refuses them. */
const FLOAT_KEYS = [
  'attention_dropout',
  'attention_factor',
  'beta_fast',
  'beta_slow',
  'factor',
  'final_logit_softcapping',
  'high_freq_factor',
  'initializer_range',
  'low_freq_factor',
  'moe_routed_scaling_factor',
  'moe_router_logit_softcapping',
  'moe_router_scaling_factor',
  'norm_eps',
  'output_multiplier',
  'partial_rotary_factor',
  'post_norm_eps',
  'qk_scale_factor',
  'rms_norm_eps',
  'rope_theta',
  'route_scale',
  'routed_scaling_factor',
  'router_aux_loss_coef',
];

const WHOLE_FLOATS = new RegExp(`("(?:${FLOAT_KEYS.join('|')})": \\d+)(?=,?\\n)`, 'g');

function encodeConfig(config: Record<string, unknown>): string {
  return encodeJson(config).replaceAll(WHOLE_FLOATS, '$1.0');
}

function encodeJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function writeJson(path: string, value: unknown): Promise<void> {
  return writeFileAtomic(path, encodeJson(value));
}
