/**
 * What the coordinator asks of the workers, and what they answer. Every request goes to all the workers at once;
 * they carry it out together. Values that all workers must agree on are the same in every answer.
 */

import type { ShardRecord } from '@sluice/checkpoint';
import type { ErrorCode } from '@sluice/core';
import type { ParameterGroup } from '@sluice/model';
import type { RunConfig } from './config.ts';
import type { Diagnostics } from './diagnostics/summary.ts';
import type { CorpusLoss } from './forwardGrains.ts';
import type { SpikeLimits } from './spikes.ts';
import type { WorkerTimeline } from './stepTimeline.ts';

export interface InitializeRequest {
  readonly config: RunConfig;
  /** Directories of the prepared corpora, in the order of `recipesOf`. */
  readonly dataDirectories: readonly string[];
  /** What names these corpora: others may have been prepared there since the run began. */
  readonly datasetHash: string;
  /** Checkpoint to start from; its content has been verified. */
  readonly checkpoint?: string;
  /** In place of a checkpoint: copies in the memory of the hosts. */
  readonly memory?: MemoryRequest;
  /** Where hosts do not see these paths, and what they name was brought to each: the hashes of the corpora. */
  readonly brought?: readonly string[];
}

/** Copies that are to be gone on from. */
export interface MemoryRequest {
  readonly step: number;
  /** Manifest of the copies, as text. */
  readonly manifest: string;
  /** Shards, by their place in the manifest, that a worker must send to the first worker of a host that lacks them. */
  readonly moves: readonly { readonly shard: number; readonly from: number; readonly to: number }[];
}

/** What is to be kept in memory. */
export interface CopyRequest {
  readonly step: number;
  /** For each rank, the rank on another host that keeps a copy of its part; −1 for none. */
  readonly copies: readonly number[];
  /** Name of the group of workers, which becomes part of the shards'. */
  readonly writer: string;
}

export interface InitializeResult {
  readonly backend: string;
  /** Name of the arithmetic, and with it of the bits. */
  readonly arithmetic: string;
  readonly threads: number;
  /** How what lies on the workers' devices travels between them, in words; absent where nothing does. */
  readonly exchange?: string;
  /** Parameters of the whole model, and those that one token uses. */
  readonly parameters: { readonly total: number; readonly active: number };
  /** Steps already taken (0 for a new run). */
  readonly step: number;
}

/** By what a step moved the weights. */
export interface TakenStep {
  /** 1 for the first optimizer step of the run. */
  readonly step: number;
  readonly learningRate: number;
}

export interface StepRequest extends TakenStep {
  /** Index of its first sample in the order of the data; when left out, as if none had ever been left out. */
  readonly firstSample?: number;
  /** The largest ordinary values; the step is outlying when one of its own is larger. Left out: no step is. */
  readonly limits?: SpikeLimits | undefined;
  /** Whether an outlying step is to leave the weights alone. */
  readonly skipOutlying?: boolean;
  /** Which steps are computed once more by other workers: those that are outlying or not finite, all, or none. */
  readonly recheck?: 'outlying' | 'always' | 'never';
  /** Whether each worker is to tell what it did in the step, moment by moment. */
  readonly timeline?: boolean;
}

/** Seconds of a step on one worker: all of it, and its parts, which add up to it. */
export interface StepSeconds {
  readonly total: number;
  /** Forward and backward passes. */
  readonly compute: number;
  /** Blocked by peers that had not come to the operation yet. */
  readonly waiting: number;
  /** Blocked while bytes were moved, or sums added, among workers that were all there. */
  readonly communicate: number;
  /** Norms of the gradient, clipping, AdamW. */
  readonly optimize: number;
}

export interface StepResult {
  readonly step: number;
  /** Mean cross-entropy of the global batch, nats a token. */
  readonly loss: number;
  /** Auxiliary losses (balance and z), already weighted. */
  readonly auxiliaryLoss: number;
  /** Global L2 norm of the gradient before clipping. */
  readonly gradientNorm: number;
  /** Of the gradient of each group of parameters, before clipping. */
  readonly groupNorms: Readonly<Partial<Record<ParameterGroup, number>>>;
  /** How far the step before moved the weights; left out where its update was not applied, and where there was none. */
  readonly lastUpdate?: LastUpdate;
  /** False when a non-finite loss or gradient, or an outlying one, kept the update from the weights. */
  readonly applied: boolean;
  /** With QK-clip: the largest attention logit of the batch, and how many heads had one above the threshold. */
  readonly largestAttentionLogit?: number;
  readonly clippedHeads?: number;
  /** What computing the step once more has shown; absent where it was not. The numbers are those that are right. */
  readonly recheck?: RecheckResult;
  readonly tokens: number;
  /** The share of the tokens that each corpus of a mixture gave, by its name; absent where there is one corpus. */
  readonly corpusShares?: Readonly<Record<string, number>>;
  /** For each layer with experts, the share of the routed tokens that each expert received. */
  readonly expertLoad?: readonly (readonly number[])[];
  /** Of this worker. */
  readonly seconds: StepSeconds;
  /** Peak resident memory of this worker, bytes. */
  readonly peakMemoryBytes: number;
  /** Where replicas train apart: what each of this worker's own says; of the numbers above, their means. */
  readonly replicas?: readonly { readonly replica: number; readonly result: StepResult }[];
  /** Of this worker, where it was asked for. */
  readonly timeline?: WorkerTimeline;
}

/** The size of an update relative to the weights before it, ‖w_t − w_{t−1}‖₂ ÷ ‖w_{t−1}‖₂; NaN where that is not finite. */
export interface LastUpdate {
  /** What the step was taken with. */
  readonly learningRate: number;
  readonly overall: number;
  /** Of the groups of parameters that the model has. */
  readonly groups: Readonly<Partial<Record<ParameterGroup, number>>>;
}

/** What came of computing a step once more, its lanes handed to other workers. The same on all workers. */
export interface RecheckResult {
  /** Whether the same bits came out. */
  readonly identical: boolean;
  /** Whether the numbers are those that two passes agree on; where they are not, the update is left out. */
  readonly isSound: boolean;
  /** Ranks that computed something else than the others; empty where it cannot be told, or all is the same. */
  readonly suspects: readonly number[];
  /** The numbers that the step had at first. */
  readonly first: { readonly loss: number; readonly gradientNorm: number };
}

export interface EvaluateRequest {
  readonly sequences: number;
}

export interface EvaluateResult {
  /** Mean cross-entropy, nats a token; of a mixture the mean of its corpora's by their weights. */
  readonly loss: number;
  readonly tokens: number;
  /** Of each corpus of a mixture that holds something out; absent where there is one corpus. */
  readonly corpora?: readonly CorpusLoss[];
}

export interface DiagnoseRequest {
  /** Validation sequences that are measured, as far as there are so many; training ones where nothing is held out. */
  readonly sequences: number;
}

/** The same on all workers. */
export type DiagnoseResult = Diagnostics;

/** Texts that the model is to go on with, as tokens. */
export interface SampleRequest {
  /** Steps that the model has taken: what is drawn is a function of the seed, of this, and of the prompt's number. */
  readonly step: number;
  /** None is empty. */
  readonly prompts: readonly (readonly number[])[];
  readonly maxTokens: number;
  readonly temperature: number;
  /** Ids below this can be drawn; those above are padding. */
  readonly vocabulary: number;
  /** Tokens that end a text. */
  readonly stop: readonly number[];
}

export interface SampleResult {
  /** What this worker wrote: the numbers of prompts, and the tokens that follow them, the one that ended the text left out. */
  readonly written: readonly { readonly prompt: number; readonly tokens: readonly number[] }[];
}

/** The state after a step is to be held in memory; of older ones the newest stays. */
export interface SnapshotRequest {
  readonly step: number;
}

/** Where to go back to: a state in memory, a checkpoint, or, without either, the beginning. */
export interface RestoreRequest {
  readonly snapshot?: number;
  readonly checkpoint?: string;
  /** Whether hosts do not see its path, and it was brought to each. */
  readonly isBrought?: boolean;
}

/** What a state must show before it is worth a checkpoint. */
export interface ExamineResult {
  /** Recomputed and compared when the checkpoint is loaded; the same on all workers. Its loss may be no number. */
  readonly probe: Probe;
  /** Tensors, of those that this worker keeps, that hold a number that is not finite: weights or moments. */
  readonly nonFinite: readonly string[];
}

export interface SaveRequest {
  /** Directory, already made, that the worker writes its shard into. */
  readonly directory: string;
  /** Name of the group of workers, which becomes part of the shard's. */
  readonly writer?: string;
  /** Whether the worker's host does not see the directory, and the coordinator fetches the shard from where it is left. */
  readonly isFetched?: boolean;
}

/** The loss of a fixed batch, by which a checkpoint proves itself. */
export interface Probe {
  /** Mean cross-entropy of the first validation sequences (or training ones, where nothing is held out), nats a token. */
  readonly loss: number;
  /** What computed it. With the same arithmetic the loss must be the same bits; with another, nearly the same. */
  readonly arithmetic: string;
}

/** One worker's part of a checkpoint; `shard` is what `@sluice/checkpoint` needs for the manifest. */
export interface SaveResult {
  readonly shard: ShardRecord;
  /** State that is the same on all workers (JSON): lagged expert loads and the like. */
  readonly state: Readonly<Record<string, unknown>>;
}

/** The state is copied to memory, from where it is written while training goes on. */
export interface StageResult {
  /** As `SaveResult` has it. */
  readonly state: SaveResult['state'];
}

/** What has come of writing a staged state; neither while it goes on. */
export interface WrittenResult {
  readonly shard?: ShardRecord;
  readonly failure?: { readonly code: ErrorCode; readonly message: string };
}

/** Every method that the coordinator can call on the workers. */
export interface WorkerMethods {
  initialize(request: InitializeRequest): Promise<InitializeResult>;
  step(request: StepRequest): Promise<StepResult>;
  evaluate(request: EvaluateRequest): Promise<EvaluateResult>;
  diagnose(request: DiagnoseRequest): Promise<DiagnoseResult>;
  sample(request: SampleRequest): Promise<SampleResult>;
  snapshot(request: SnapshotRequest): Promise<Record<string, never>>;
  restore(request: RestoreRequest): Promise<Record<string, never>>;
  examine(request: Record<string, never>): Promise<ExamineResult>;
  save(request: SaveRequest): Promise<SaveResult>;
  stage(request: Record<string, never>): Promise<StageResult>;
  /** Begins to write what is staged. */
  write(request: SaveRequest): Promise<Record<string, never>>;
  written(request: Record<string, never>): Promise<WrittenResult>;
  copy(request: CopyRequest): Promise<SaveResult>;
  /** Closes sockets and ends the process. */
  stop(request: Record<string, never>): Promise<Record<string, never>>;
}
