export * from './commit.ts';
export { type ContentHashes, hashTensors } from './contentHash.ts';
export { type CheckpointEntry, checkpointDirectory, listCheckpoints } from './directories.ts';
export {
  MANIFEST_NAME,
  type Manifest,
  readManifest,
  readManifestText,
  type ShardRecord,
} from './manifest.ts';
export * from './reader.ts';
export * from './retention.ts';
export * from './safetensors.ts';
export { openForReading, readFully, SafetensorsFile, type TensorInfo } from './safetensorsReader.ts';
export { writeShard } from './shard.ts';
export { ShardWriter } from './shardWriter.ts';
export {
  ADAMW_KINDS,
  compareTensors,
  type HashedPiece,
  hashPiece,
  type LogicalTensor,
  numElements,
  type Piece,
  type SavedTensor,
  storedName,
  TENSOR_KINDS,
  type TensorDifferences,
  type TensorKind,
  tensorsOfKind,
} from './tensors.ts';
export { type Verification, type VerifyOptions, verifyCheckpoint } from './verify.ts';
export { type CheckpointProblem, verifyShard } from './verifyShard.ts';
