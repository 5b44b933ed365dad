/**
 * What the replicas of a run have in common (`SynchronizeConfig`): the outer weights, of each part of the model those of its last
 * synchronization, and their momentum. A worker has of them what it owns in its replica, the same of each where it trains several.
 *
 * The differences that an exchange began with are kept where it overlaps steps, since it adds them up elsewhere: a checkpoint that is
 * taken meanwhile has them, and whoever goes on from it sends them once more.
 */

import type { CheckpointReader, Piece } from '@sluice/checkpoint';
import { sharedFloat32 } from '@sluice/collectives';
import { changeOnHost, type Floats, flatMemory } from '@sluice/engine';
import type { OptimizedPiece } from '../optimizer/pieces.ts';
import type { Trainer } from '../trainer.ts';
import { replicaTensor } from '../trainerState.ts';
import { type SynchronizeConfig, USUAL_MIXING } from './config.ts';
import type { ReplicaLayout } from './layout.ts';
import { type SumUnderway, sumDifferences, sumQuantized } from './outerGradient.ts';
import { difference, mix, outerStep } from './outerOptimizer.ts';
import { type Departure, turnOf } from './parts.ts';
import { GROUP_VALUES } from './quantize.ts';

/** A piece of the model that this worker owns, the same of each of its replicas. */
export interface OuterPiece extends Pick<OptimizedPiece, 'tensor' | 'begin' | 'end'> {
  /** Of each own replica. */
  readonly inner: readonly Floats[];
  /** Where it lies among all of the outer weights. */
  readonly at: number;
}

/** What is brought together at once. */
interface OuterPart {
  readonly stages: ReadonlySet<number>;
  readonly pieces: readonly OuterPiece[];
  /** Where its pieces lie among all of the outer weights. */
  readonly start: number;
  readonly end: number;
}

export class OuterModel {
  readonly #settings: SynchronizeConfig;
  readonly #layout: ReplicaLayout;
  readonly #trainers: readonly Trainer[];
  readonly #parts: readonly OuterPart[];
  readonly #weights: Float32Array;
  readonly #momentum: Float32Array;
  /** Of one part at a time, of each own replica, and their sum over all replicas, which is sent. */
  readonly #differences: readonly Float32Array[];
  readonly #sum: Float32Array;
  #underway: (Departure & { readonly sum: SumUnderway }) | undefined;

  /**
   * @param trainers of the replicas of the layout
   * @param partOf of each stage
   */
  constructor(
    settings: SynchronizeConfig,
    layout: ReplicaLayout,
    trainers: readonly Trainer[],
    partOf: readonly number[],
  ) {
    this.#settings = settings;
    this.#layout = layout;
    this.#trainers = trainers;
    this.#parts = outerParts(trainers, partOf);
    const length = this.#parts.at(-1)!.end;
    this.#weights = new Float32Array(length);
    this.#momentum = new Float32Array(length);
    const longest = Math.max(...this.#parts.map(({ start, end }) => end - start));
    this.#sum = sharedFloat32(longest);
    const areKept = settings.overlapSteps > 0;
    this.#differences = trainers.map((_, i) => (i > 0 || areKept ? new Float32Array(longest) : this.#sum));
  }

  /** All pieces that this worker owns, part after part. */
  get pieces(): OuterPiece[] {
    return this.#parts.flatMap(({ pieces }) => pieces);
  }

  /** What is on its way. */
  get underway(): Departure | undefined {
    return this.#underway && { part: this.#underway.part, step: this.#underway.step };
  }

  /** Takes the weights that all replicas have, without momentum. */
  begin(): void {
    for (const piece of this.pieces) within(piece, this.#weights).set(flatMemory().read(piece.inner[0]!));
    this.#momentum.fill(0);
  }

  /** Has the differences of a part begin to travel. All workers call it together, as all that follows. */
  send(departure: Departure): void {
    const part = this.#parts[departure.part]!;
    for (const [i, all] of this.#differences.entries()) {
      // What lies between pieces shares scales with them, and may be of another part.
      all.fill(0);
      for (const piece of part.pieces)
        difference(
          within(piece, this.#weights),
          flatMemory().read(piece.inner[i]!),
          within(piece, all, part),
        );
    }
    this.#launch(departure);
  }

  /** Has what is on its way turn after half of the steps that it overlaps, and arrive after all of them, or as the run `ends`. */
  goOn(step: number, ends: boolean): void {
    if (this.#underway === undefined) return;
    const { overlapSteps, mixing = USUAL_MIXING } = this.#settings;
    if (step >= turnOf(this.#underway, overlapSteps)) this.#underway.sum.turn();
    if (ends || step >= this.#underway.step + overlapSteps) this.arrive(mixing);
  }

  /**
   * Waits for the sum of what was sent, takes the outer step, and gives the new weights to the replicas.
   * @param mixing the share of its own weights that a replica keeps
   */
  arrive(mixing: number): void {
    const part = this.#parts[this.#underway!.part]!;
    this.#underway!.sum.wait();
    this.#underway = undefined;
    const { start, end } = part;
    const sum = this.#sum.subarray(0, end - start);
    outerStep(this.#weights.subarray(start, end), this.#momentum.subarray(start, end), sum, this.#settings);
    this.#settle();
    for (const i of this.#trainers.keys()) this.#give(i, [part], mixing);
  }

  /** Gives one of the own replicas the outer weights for the time of `pass`. */
  async lend<Result>(replica: number, pass: () => Promise<Result>): Promise<Result> {
    this.#settle();
    const kept = this.pieces.map(({ inner }) => flatMemory().read(inner[replica]!).slice());
    this.#give(replica, this.#parts, 0);
    try {
      return await pass();
    } finally {
      this.#settle();
      for (const [i, { inner }] of this.pieces.entries()) flatMemory().write(inner[replica]!, kept[i]!);
      for (const { optimizer } of this.#trainers[replica]!.spaces) optimizer.share();
    }
  }

  /** The outer weights and their momentum. Views, valid until the next step, as those below. */
  savedPieces(): Piece[] {
    return this.pieces.flatMap((piece): Piece[] => {
      const { tensor, begin, end } = piece;
      return [
        { tensor, kind: 'parameter', begin, end, values: within(piece, this.#weights) },
        { tensor, kind: 'outerMomentum', begin, end, values: within(piece, this.#momentum) },
      ];
    });
  }

  /** Differences of the own replicas that are on their way. */
  sentPieces(): Piece[] {
    if (this.#underway === undefined) return [];
    const part = this.#parts[this.#underway.part]!;
    return this.#differences.flatMap((all, i) =>
      part.pieces.map((piece): Piece => {
        const { begin, end, tensor } = piece;
        const name = replicaTensor(this.#layout.replicas[i]!, tensor.name);
        const values = within(piece, all, part);
        return { tensor: { ...tensor, name }, kind: 'outerGradient', begin, end, values };
      }),
    );
  }

  /** @param underway what was on its way when the checkpoint was taken */
  async load(reader: CheckpointReader, underway: Departure | undefined): Promise<void> {
    // Nobody else may write to what is being sent.
    this.#underway?.sum.wait();
    this.#underway = undefined;
    for (const piece of this.pieces) {
      const { tensor, begin, end } = piece;
      await reader.readRange('parameter', tensor.name, begin, end, within(piece, this.#weights));
      await reader.readRange('outerMomentum', tensor.name, begin, end, within(piece, this.#momentum));
    }
    if (underway === undefined) return;
    const part = this.#parts[underway.part]!;
    for (const [i, all] of this.#differences.entries()) {
      all.fill(0);
      for (const piece of part.pieces) {
        const name = replicaTensor(this.#layout.replicas[i]!, piece.tensor.name);
        await reader.readRange('outerGradient', name, piece.begin, piece.end, within(piece, all, part));
      }
    }
    this.#launch(underway);
  }

  #launch(departure: Departure): void {
    const { start, end } = this.#parts[departure.part]!;
    const ofPart = (all: Float32Array) => all.subarray(0, end - start);
    const begin = this.#settings.outerGradients === 'int8' ? sumQuantized : sumDifferences;
    const sum = begin(this.#layout.counterparts, this.#differences.map(ofPart), ofPart(this.#sum));
    this.#underway = { ...departure, sum };
  }

  #give(replica: number, parts: readonly OuterPart[], mixing: number): void {
    for (const { pieces, stages } of parts) {
      for (const piece of pieces) {
        const outer = within(piece, this.#weights);
        const inner = piece.inner[replica]!;
        if (mixing === 0) flatMemory().write(inner, outer);
        else changeOnHost(inner, (values) => mix(values, outer, mixing));
      }
      for (const { optimizer } of this.#trainers[replica]!.spaces) optimizer.share(stages);
    }
  }

  /** What is still being sent must not be changed. */
  #settle(): void {
    for (const { spaces } of this.#trainers) for (const { optimizer } of spaces) optimizer.settle();
  }
}

/** A piece's values among those of the whole model, or of a part. */
function within({ at, begin, end }: OuterPiece, all: Float32Array, part?: OuterPart): Float32Array {
  const from = at - (part?.start ?? 0);
  return all.subarray(from, from + end - begin);
}

/**
 * The owned pieces part after part, one after the other, each from a multiple of the values that share a scale.
 * @param partOf of each stage
 */
function outerParts(trainers: readonly Trainer[], partOf: readonly number[]): OuterPart[] {
  const owned = trainers.map(({ spaces }) => spaces.flatMap(({ optimizer }) => optimizer.pieces));
  let length = 0;
  const place = ({ tensor, begin, end }: OptimizedPiece, piece: number): OuterPiece => {
    const at = length;
    length += Math.ceil((end - begin) / GROUP_VALUES) * GROUP_VALUES;
    return { tensor, begin, end, at, inner: owned.map((of) => of[piece]!.values) };
  };
  return Array.from({ length: Math.max(...partOf) + 1 }, (_, part) => {
    const start = length;
    const pieces = owned[0]!.flatMap((piece, i) =>
      partOf[piece.spec.stage] === part ? [place(piece, i)] : [],
    );
    const stages = new Set([...partOf.keys()].filter((stage) => partOf[stage] === part));
    return { stages, pieces, start, end: length };
  });
}
