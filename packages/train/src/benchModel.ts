/** Measures training steps of any model, by one worker on random tokens, one grain a step. */

import { selectBackend } from '@sluice/engine';
import { flopsPerToken, initializeTensor, type ModelConfig } from '@sluice/model';
import { loneTrainer, parametersOf } from './bench.ts';
import { RunConfig } from './config.ts';
import { medianInPlace } from './median.ts';
import type { StepSeconds } from './protocol.ts';

export interface BenchModelOptions {
  readonly model: ModelConfig;
  readonly sequenceLength: number;
  /** Sequences of a step. */
  readonly sequences: number;
  readonly backend: string;
  /** Steps that are measured, after two that are not. */
  readonly steps: number;
}

export interface BenchModelResult {
  /** Median over the measured steps, by the wall’s clock: a step ends with what is read of it. */
  readonly stepMs: number;
  /** Of the last step. */
  readonly seconds: StepSeconds;
  readonly tokensPerSecond: number;
  readonly flopsPerToken: number;
  readonly parameters: number;
  /** Of all steps. */
  readonly losses: readonly number[];
}

const WARM_UP = 2;

export async function benchModel(options: BenchModelOptions): Promise<BenchModelResult> {
  const { model, sequenceLength, sequences, steps } = options;
  await selectBackend(options.backend);
  const config = RunConfig.parse({
    model,
    data: { recipe: 'random tokens', sequenceLength },
    parallel: { lanes: 1 },
    batch: { sequences, grainSequences: sequences },
    training: { steps: 1_000_000 },
    optimizer: { learningRate: 3e-4 },
  });
  const trainer = loneTrainer(config);
  for (const { space } of trainer.spaces) {
    for (const placed of space.parameters) {
      for (const tensor of placed.spec.tensors)
        space.fillTensor(placed, tensor, (values) =>
          repeatInitial(values, (part) => initializeTensor(tensor, part, config.model, config.seed)),
        );
    }
  }
  const times: number[] = [];
  const losses: number[] = [];
  let seconds: StepSeconds | undefined;
  for (let step = 1; step <= WARM_UP + steps; step++) {
    const start = performance.now();
    const result = await trainer.trainStep({ step, learningRate: config.optimizer.learningRate });
    if (step > WARM_UP) times.push(performance.now() - start);
    losses.push(result.loss);
    seconds = result.seconds;
  }
  const stepMs = medianInPlace(Float64Array.from(times));
  return {
    stepMs,
    seconds: seconds!,
    tokensPerSecond: (1000 * sequences * sequenceLength) / stepMs,
    flopsPerToken: flopsPerToken(config.model, sequenceLength),
    parameters: parametersOf(trainer).reduce((sum, { spec }) => sum + spec.size, 0),
    losses,
  };
}

/** Values that are drawn: billions would take minutes. */
const DRAWN = 2 ** 20;

/** Fills the first values, and repeats them: as good for a measurement, and there at once. */
function repeatInitial(values: Float32Array, fill: (part: Float32Array) => void): void {
  fill(values.subarray(0, DRAWN));
  for (let filled = DRAWN; filled < values.length; filled *= 2) values.copyWithin(filled, 0, filled);
}
