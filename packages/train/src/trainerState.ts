/** A trainer's state as the pieces and the JSON of a checkpoint, and back. */

import {
  ADAMW_KINDS,
  type CheckpointReader,
  type Piece,
  type SavedTensor,
  type TensorKind,
} from '@sluice/checkpoint';
import { inParallel } from '@sluice/core';
import { changeOnHostAsync, type Floats, flatMemory } from '@sluice/engine';
import { modelParameters } from '@sluice/model';
import type { RunConfig } from './config.ts';
import type { TrainedSpace } from './gradientPasses.ts';
import type { Clipping, ClippingState } from './optimizer/clipping.ts';
import { muonMatrix } from './optimizer/settings.ts';
import type { TakenStep } from './protocol.ts';
import { dealParts } from './synchronize/parts.ts';
import type { ReplicasState } from './synchronize/replicasState.ts';
import { revivedRatios, type SavedRatios, savedRatios, type UpdateRatios } from './updateSizes.ts';
import { readWeights } from './weights.ts';

/** What is saved of a matrix that Muon trains. */
const MUON_KINDS = ['parameter', 'momentum'] as const;

/** What of a trainer a checkpoint holds. */
export interface SavedTrainer {
  readonly spaces: readonly TrainedSpace[];
  readonly clipping: Clipping;
  expertLoads: Float32Array[];
  taken: TakenStep | undefined;
  takenUpdate: UpdateRatios | undefined;
  keptSteps: number;
  initialize(): void;
  measureUpdate(): UpdateRatios | undefined;
}

/** State that is the same on all workers. */
export interface TrainerState {
  /** Share of the routed tokens of each expert in the last step, layer by layer. */
  readonly expertLoads: readonly (readonly number[])[];
  /** The last step; null where there was none, or its update was not applied. */
  readonly taken: TakenStep | null;
  /** How far it moved the weights; the next step tells. Absent in checkpoints of older versions, null where there is none. */
  readonly update?: SavedRatios | null;
  /** Steps that the moments are of beyond those of the run, fewer than none where updates were left out; left out for none. */
  readonly keptSteps?: number;
  /** Of adaptive clipping; left out without. */
  readonly clipping?: ClippingState;
}

/** A piece of a checkpoint where the running backend has it. */
type FlatPiece = Omit<Piece, 'values'> & { readonly values: Floats };

/** Everything that this worker owns: values and moments, valid until the next step. Of a device's memory they are copies. */
export function trainerPieces(trainer: SavedTrainer): Piece[] {
  return flatPieces(trainer).map(onHost);
}

/** The moments alone. */
export function momentPieces(trainer: SavedTrainer): Piece[] {
  return flatPieces(trainer)
    .filter(({ kind }) => kind !== 'parameter')
    .map(onHost);
}

/** Gives everything that this worker owns the values of pieces, which are those of `trainerPieces` in their order. */
export function writePieces(trainer: SavedTrainer, pieces: readonly Float32Array[]): void {
  for (const [i, { values }] of flatPieces(trainer).entries()) flatMemory().write(values, pieces[i]!);
}

function flatPieces({ spaces }: SavedTrainer): FlatPiece[] {
  return spaces.flatMap(({ optimizer }) =>
    optimizer.pieces.flatMap(({ tensor, begin, end, values, moments }): FlatPiece[] => [
      { tensor, kind: 'parameter', begin, end, values },
      ...kindsOf(moments).map(([kind, values]) => ({ tensor, kind, begin, end, values })),
    ]),
  );
}

function onHost(piece: FlatPiece): Piece {
  return { ...piece, values: flatMemory().read(piece.values) };
}

type Moments = SavedTrainer['spaces'][number]['optimizer']['pieces'][number]['moments'];

function kindsOf(moments: Moments): [TensorKind, Floats][] {
  return Object.entries(moments) as [TensorKind, Floats][];
}

/**
 * The logical tensors of a run's checkpoints, with what is saved of each.
 * @param state of the workers, where replicas that train apart may have something on its way
 */
export function savedTensors(
  {
    model,
    optimizer,
    parallel,
  }: Pick<RunConfig, 'model' | 'optimizer'> & Partial<Pick<RunConfig, 'parallel'>>,
  state?: Readonly<Record<string, unknown>>,
): SavedTensor[] {
  const settings = parallel?.synchronize;
  const { underway } = (state ?? {}) as Partial<ReplicasState>;
  const { partOf } = dealParts(model, settings?.parts ?? 1);
  return modelParameters(model).flatMap((spec) =>
    spec.tensors.flatMap((tensor): SavedTensor[] => {
      const { name, shape } = tensor;
      const isMuon = muonMatrix(optimizer, spec, tensor) !== undefined;
      if (!settings) return [{ name, shape, ...(isMuon && { kinds: MUON_KINDS }) }];
      const [, ...moments] = isMuon ? MUON_KINDS : ADAMW_KINDS;
      const sent = partOf[spec.stage] === underway?.part ? (['outerGradient'] as const) : [];
      const own = Array.from({ length: settings.replicas }, (_, replica) => ({
        ...{ name: replicaTensor(replica, name), shape, kinds: ['replica' as const, ...moments, ...sent] },
      }));
      return [{ name, shape, kinds: ['parameter', 'outerMomentum'] }, ...own];
    }),
  );
}

/** Name of what is saved of a tensor of one of the replicas that train apart. */
export function replicaTensor(replica: number, name: string): string {
  return `replica.${replica}.${name}`;
}

/** Names of the pieces that hold a number that is not finite; of a parameter its own, of moments with their kind. */
export function nonFinite(pieces: readonly Piece[]): string[] {
  const found = pieces.filter(({ values }) => !allFinite(values));
  return found.map(({ tensor, kind }) => (kind === 'parameter' ? tensor.name : `${tensor.name} (${kind})`));
}

/** Times zero, every finite number is nothing, and any other is NaN ever after: no branch for each of millions. */
function allFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * 0;
  return sum === 0;
}

/** All workers call it together. */
export function trainerState(trainer: SavedTrainer): Readonly<Record<string, unknown>> {
  const { expertLoads, taken } = trainer;
  const update = trainer.measureUpdate();
  const state: TrainerState = {
    expertLoads: expertLoads.map((loads) => [...loads]),
    taken: taken ?? null,
    ...(trainer.keptSteps !== 0 && { keptSteps: trainer.keptSteps }),
    ...(trainer.clipping.state && { clipping: trainer.clipping.state }),
    update: update ? savedRatios(update) : null,
  };
  return { ...state };
}

/** Tensors that are read at the same time; of each there are a few reads of at most 1 MiB under way. */
const READ_AT_ONCE = 4;

/** Reads whatever this worker holds, however many workers saved it. */
export async function loadTrainer(trainer: SavedTrainer, reader: CheckpointReader): Promise<void> {
  await readWeights(
    trainer,
    ({ name, size }, target) => reader.readRange('parameter', name, 0, size, target),
    READ_AT_ONCE,
  );
  await readMoments(trainer, reader);
  restoreState(trainer, reader.manifest.state.worker as Readonly<Record<string, unknown>>);
}

/** @param savedName of a tensor of the model */
export async function readMoments(
  { spaces }: SavedTrainer,
  reader: CheckpointReader,
  savedName: (name: string) => string = (name) => name,
): Promise<void> {
  const pieces = spaces.flatMap(({ optimizer }) => optimizer.pieces);
  await inParallel(pieces, READ_AT_ONCE, async ({ tensor, begin, end, moments }) => {
    for (const [kind, values] of kindsOf(moments)) {
      const read = (target: Float32Array) =>
        reader.readRange(kind, savedName(tensor.name), begin, end, target);
      await changeOnHostAsync(values, read);
    }
  });
}

/**
 * Has a trainer that begins with a checkpoint's weights go on with its optimizer too: the moments, the steps that they are of, and
 * what adaptive clipping remembers.
 */
export async function keepOptimizer(trainer: SavedTrainer, reader: CheckpointReader): Promise<void> {
  await readMoments(trainer, reader);
  const { step, state } = reader.manifest;
  const { keptSteps = 0, clipping } = state.worker as unknown as TrainerState;
  trainer.keptSteps = step + keptSteps;
  trainer.clipping.restore(clipping);
}

/** @param state as `trainerState` gave it */
export function restoreState(trainer: SavedTrainer, state: Readonly<Record<string, unknown>>): void {
  const { expertLoads, taken, update, clipping, keptSteps } = state as unknown as TrainerState;
  trainer.expertLoads = expertLoads.map((loads) => Float32Array.from(loads));
  // Older versions did not note the size of every update: there it is as if there had been none.
  trainer.taken = update && taken ? taken : undefined;
  trainer.takenUpdate = update ? revivedRatios(update) : undefined;
  trainer.clipping.restore(clipping);
  trainer.keptSteps = keptSteps ?? 0;
}

/** Takes a trainer back to what a new one begins with. */
export function beginAnew(trainer: SavedTrainer): void {
  for (const { optimizer } of trainer.spaces) optimizer.settle();
  for (const { values } of flatPieces(trainer)) flatMemory().fill(values, 0);
  trainer.initialize();
  for (const { parameter } of trainer.spaces.flatMap(({ space }) => space.parameters)) parameter.refresh();
}
