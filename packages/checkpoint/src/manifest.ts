/**
 * The manifest of a checkpoint. It is written last, so that a checkpoint exists exactly when its manifest does, and it
 * carries the hash of itself, so that a damaged one is known.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SluiceError, sha256 } from '@sluice/core';
import { z } from 'zod';
import { coverageFaults } from './contentHash.ts';
import { TENSOR_KINDS, type TensorKind } from './tensors.ts';

export const MANIFEST_NAME = 'manifest.json';

/**
 * The versions of the format that this program reads. In the second, a tensor may have kinds of its own; in the third there may be
 * those of replicas, and in the fourth what these have sent each other and has not come.
 */
const FORMAT_VERSIONS = [1, 2, 3, 4] as const;

/** Kinds that a version has first; all others are in every one. */
const VERSION_OF_KIND: { readonly [Kind in TensorKind]?: 3 | 4 } = {
  ...{ outerMomentum: 3, replica: 3, outerGradient: 4 },
};

const FORMAT_NAME = 'sluice-checkpoint';

const Count = z.int().min(0);
const Digest = z.string().regex(/^[0-9a-f]{64}$/);

const ShardPiece = z.strictObject({
  tensor: z.string(),
  kind: z.enum(TENSOR_KINDS),
  begin: Count,
  end: Count,
  /** Where its bytes begin in the file. */
  offset: Count,
  /** SHA-256 of each block, packed as base64. */
  hashes: z.string(),
});

const ShardRecord = z.strictObject({
  /** Name of the file in the checkpoint's directory; never a path. */
  file: z.string().regex(/^[\w.-]+$/),
  size: Count,
  /** SHA-256 of the safetensors header with its length: with the blocks' hashes, every byte of the file is covered. */
  headerHash: Digest,
  pieces: z.array(ShardPiece),
});

const Manifest = z.strictObject({
  format: z.literal(FORMAT_NAME),
  version: z.literal([...FORMAT_VERSIONS]),
  /** Optimizer steps taken. */
  step: Count,
  configHash: z.string(),
  config: z.json(),
  /** State that all workers share: schedule, data order, detectors. */
  state: z.record(z.string(), z.json()),
  /** Loss of the probe batch, and what it takes to compute it again. */
  probe: z.record(z.string(), z.json()),
  kinds: z.array(z.enum(TENSOR_KINDS)),
  tensors: z.array(
    z.strictObject({
      name: z.string(),
      shape: z.array(Count),
      dtype: z.literal('f32'),
      /** In place of `kinds` above. */
      kinds: z.array(z.enum(TENSOR_KINDS)).optional(),
    }),
  ),
  hashes: z.strictObject({
    weights: Digest,
    optimizer: Digest.nullable(),
    tensors: z.record(z.string(), Digest),
  }),
  shards: z.array(ShardRecord),
});

export type ShardRecord = z.infer<typeof ShardRecord>;
export type Manifest = z.infer<typeof Manifest>;

/**
 * The text of a manifest: its body, with the SHA-256 of all that follows on its second line. It is of the oldest version that
 * can say what it says, so that older programs read what they can.
 */
export function encodeManifest(manifest: Omit<Manifest, 'format' | 'version'>): string {
  const ownKinds = manifest.tensors.flatMap(({ kinds }) => kinds ?? []);
  const version = Math.max(1, ...ownKinds.map((kind) => VERSION_OF_KIND[kind] ?? 2));
  const json = JSON.stringify({ format: FORMAT_NAME, version, ...manifest }, undefined, 1);
  const body = `${json.slice(2)}\n`;
  return `{\n "sha256": "${sha256(body)}",\n${body}`;
}

/** Why a manifest cannot be used. */
export class ManifestFault extends Error {
  readonly kind: 'incomplete' | 'manifest-damaged' | 'version-unknown';

  constructor(kind: ManifestFault['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

const HEAD = /^\{\n "sha256": "([0-9a-f]{64})",\n/;
const HEAD_BYTES = '{\n "sha256": "",\n'.length + 64;

/** The manifest that `encodeManifest` made this text of. @throws ManifestFault */
export function readManifestText(text: string): Manifest {
  return decodeManifest(Buffer.from(text));
}

/** @throws ManifestFault */
function decodeManifest(bytes: Buffer): Manifest {
  const digest = HEAD.exec(bytes.toString('latin1', 0, HEAD_BYTES))?.[1];
  // Another version may be framed otherwise.
  if (digest === undefined) checkVersion(bytes);
  if (digest !== sha256(bytes.subarray(HEAD_BYTES))) {
    throw new ManifestFault('manifest-damaged', `${MANIFEST_NAME} does not match its own hash`);
  }
  checkVersion(bytes);
  const result = Manifest.safeParse(JSON.parse(`{${bytes.toString('utf8', HEAD_BYTES)}`));
  if (!result.success) {
    const { path, message } = result.error.issues[0]!;
    throw new ManifestFault('manifest-damaged', `${MANIFEST_NAME}: ${path.join('.')}: ${message}`);
  }
  const fault = structuralFault(result.data);
  if (fault !== undefined) throw new ManifestFault('manifest-damaged', `${MANIFEST_NAME}: ${fault}`);
  return result.data;
}

function checkVersion(bytes: Buffer): void {
  let json: { format?: unknown; version?: unknown } | null;
  try {
    json = JSON.parse(bytes.toString());
  } catch {
    return;
  }
  const isKnown = FORMAT_VERSIONS.some((version) => version === json?.version);
  if (json?.format === FORMAT_NAME && Number.isSafeInteger(json.version) && !isKnown) {
    const message = `${MANIFEST_NAME} is of version ${json.version}; this program reads versions 1 to ${FORMAT_VERSIONS.at(-1)}`;
    throw new ManifestFault('version-unknown', message);
  }
}

/** What makes a manifest contradict itself: pieces must cover all tensors once, and each shard's file without gaps. */
function structuralFault({ tensors, kinds, shards }: Manifest): string | undefined {
  const [fault] = coverageFaults(
    tensors,
    kinds,
    shards.flatMap((shard) => shard.pieces),
  );
  if (fault !== undefined) return fault;
  for (const { file, size, pieces } of shards) {
    let position = pieces[0]?.offset ?? size;
    for (const { offset, begin, end } of pieces) {
      if (offset !== position) return `the pieces in ${file} do not follow one another`;
      position += 4 * (end - begin);
    }
    if (position !== size) return `the pieces in ${file} do not end where it does`;
  }
  return undefined;
}

/**
 * Reads and checks the manifest of a checkpoint.
 * @throws ManifestFault
 */
export async function loadManifest(directory: string): Promise<Manifest> {
  let bytes: Buffer;
  try {
    bytes = await readFile(join(directory, MANIFEST_NAME));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new ManifestFault('incomplete', `there is no ${MANIFEST_NAME}: saving did not come to its end`);
    }
    throw new ManifestFault('manifest-damaged', `${MANIFEST_NAME} cannot be read (${code})`);
  }
  return decodeManifest(bytes);
}

const FAULT_CODES = {
  incomplete: 'SLUICE_E_CHECKPOINT_INCOMPLETE',
  'manifest-damaged': 'SLUICE_E_CHECKPOINT_DAMAGED',
  'version-unknown': 'SLUICE_E_CHECKPOINT_VERSION',
} as const;

/**
 * The manifest of a checkpoint: what is in it and where. The other files are not looked at.
 * @throws SLUICE_E_CHECKPOINT_INCOMPLETE, SLUICE_E_CHECKPOINT_DAMAGED, SLUICE_E_CHECKPOINT_VERSION
 */
export async function readManifest(directory: string): Promise<Manifest> {
  try {
    return await loadManifest(directory);
  } catch (error) {
    if (!(error instanceof ManifestFault)) throw error;
    throw new SluiceError(FAULT_CODES[error.kind], `${directory} cannot be used: ${error.message}.`, {
      details: { directory },
    });
  }
}
