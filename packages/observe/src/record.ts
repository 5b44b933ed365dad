/** What is recorded about one step, and what can be told from it alone. */

/**
 * One line of `metrics.jsonl`. JSON knows no NaN or infinity: where a number was not finite, the line holds null,
 * which is read back as NaN.
 */
export interface StepRecord {
  /** 1 for the first optimizer step of the run. */
  readonly step: number;
  /** When the step had ended, ISO 8601, UTC. */
  readonly time: string;
  /** Mean cross-entropy of the global batch, nats a token. */
  readonly loss: number;
  /** Auxiliary losses of the experts (balance and z), already weighted, nats a token. */
  readonly auxiliaryLoss: number;
  /** Mean cross-entropy on the validation split, nats a token; only on the steps after which it was measured. */
  readonly validationLoss?: number;
  /** The same of each corpus of a mixture, by its name. */
  readonly validationLosses?: Readonly<Record<string, number>>;
  /** Global L2 norm of the gradient before clipping. */
  readonly gradientNorm: number;
  /** Of the gradient of each group of parameters, before clipping; absent in lines of older versions. */
  readonly groupNorms?: Readonly<Record<string, number>>;
  /** How far the step before moved the weights; absent where it did not, and in lines of older versions. */
  readonly lastUpdate?: RecordedUpdate;
  /** False when a loss or gradient that was outlying or not finite kept the update from the weights. */
  readonly applied: boolean;
  readonly learningRate: number;
  /** Tokens in the global batch. */
  readonly tokens: number;
  /** The share of them that each corpus of a mixture gave, by its name; absent where there is one corpus. */
  readonly corpusShares?: Readonly<Record<string, number>>;
  /** Tokens of the global batch ÷ wall-clock seconds of the step. */
  readonly tokensPerSecond: number;
  /** With QK-clip: the largest attention logit of the batch. */
  readonly largestAttentionLogit?: number;
  /** With QK-clip: heads whose largest logit was above the threshold. */
  readonly clippedHeads?: number;
  /** For each layer with experts, the share of the routed tokens that each expert received (4 significant digits). */
  readonly expertLoad?: readonly (readonly number[])[];
  readonly seconds: StepSeconds;
  /** Peak resident memory so far of the worker that has the largest, bytes. */
  readonly peakMemoryBytes: number;
  /** True when the spike detector flagged the step; absent otherwise. */
  readonly spike?: boolean;
  /** What has become of saves, on the first step after something did. */
  readonly checkpoint?: RecordedSaves | undefined;
}

/** Steps of the newest saves of each kind; absent where there was none yet. */
export interface RecordedSaves {
  /** Asked for. */
  readonly requested?: number;
  /** Its state was copied to memory, and training went on. */
  readonly staged?: number;
  /** Complete, and forced to the disk. */
  readonly durable?: number;
  /** How long training stood still for the newest, seconds. */
  readonly stallSeconds?: number;
  /** How long the newest that is durable took since it was asked for, seconds. */
  readonly durableSeconds?: number;
  /** Attempts that failed since the last one that did not. */
  readonly failures?: number;
}

/** ‖w_t − w_{t−1}‖ ÷ ‖w_{t−1}‖ of an update, weight decay included: of all weights, and of each group of parameters. */
export interface RecordedUpdate {
  readonly overall: number;
  readonly groups: Readonly<Record<string, number>>;
}

/** The parts of a step that add up to its `total`. */
export const STEP_PARTS = ['compute', 'waiting', 'communicate', 'optimize'] as const;

/**
 * Seconds of the step, means of the workers: all of it, its forward and backward passes, what a worker waited for peers
 * that had not come to an operation yet, what was spent moving bytes among workers that were all there, and the update.
 * Lines of versions that did not tell waiting apart count it as `communicate`; their `waiting` is NaN.
 */
export type StepSeconds = Readonly<Record<'total' | (typeof STEP_PARTS)[number], number>>;

/** What a worker measured in a step; the `StepResult` of `@sluice/train` fits. */
export type MeasuredStep = Omit<
  StepRecord,
  'time' | 'learningRate' | 'tokensPerSecond' | 'validationLoss' | 'validationLosses' | 'spike' | 'checkpoint'
>;

/** What the coordinator knows about a step beside what the workers measured. */
export interface StepContext {
  readonly learningRate: number;
  readonly tokensPerSecond: number;
  readonly validationLoss?: number | undefined;
  readonly validationLosses?: Readonly<Record<string, number>> | undefined;
  readonly spike?: boolean | undefined;
  readonly checkpoint?: RecordedSaves | undefined;
  /** Now, when left out. */
  readonly time?: Date | undefined;
}

/** Puts the record of a step together from a worker's measurements and the coordinator's. */
export function stepRecord(measured: MeasuredStep, context: StepContext): StepRecord {
  return {
    step: measured.step,
    time: (context.time ?? new Date()).toISOString(),
    loss: measured.loss,
    auxiliaryLoss: measured.auxiliaryLoss,
    ...(context.validationLoss === undefined ? {} : { validationLoss: context.validationLoss }),
    ...(context.validationLosses && { validationLosses: context.validationLosses }),
    gradientNorm: measured.gradientNorm,
    ...(measured.groupNorms === undefined ? {} : { groupNorms: measured.groupNorms }),
    ...(measured.lastUpdate && {
      lastUpdate: { overall: measured.lastUpdate.overall, groups: measured.lastUpdate.groups },
    }),
    applied: measured.applied,
    learningRate: context.learningRate,
    tokens: measured.tokens,
    ...(measured.corpusShares && { corpusShares: measured.corpusShares }),
    tokensPerSecond: context.tokensPerSecond,
    ...(measured.largestAttentionLogit === undefined
      ? {}
      : { largestAttentionLogit: measured.largestAttentionLogit }),
    ...(measured.clippedHeads === undefined ? {} : { clippedHeads: measured.clippedHeads }),
    ...(measured.expertLoad === undefined ? {} : { expertLoad: measured.expertLoad }),
    seconds: measured.seconds,
    peakMemoryBytes: measured.peakMemoryBytes,
    ...(context.spike ? { spike: true } : {}),
    ...(context.checkpoint && { checkpoint: context.checkpoint }),
  };
}

/**
 * How far the busiest expert is above its fair share: max load ÷ mean load − 1, averaged over the layers; 0 when
 * perfectly balanced (MaxVio of Wang et al., "Auxiliary-loss-free load balancing", 2024). NaN without experts.
 * @param expertLoad layers × experts, in any unit that is the same within a layer
 */
export function maxViolation(expertLoad: readonly (readonly number[])[] | undefined): number {
  if (expertLoad === undefined || expertLoad.length === 0) return Number.NaN;
  let sum = 0;
  for (const layer of expertLoad) {
    const total = layer.reduce((a, b) => a + b, 0);
    sum += total > 0 ? (Math.max(...layer) * layer.length) / total - 1 : 0;
  }
  return sum / expertLoad.length;
}

/** Load of each expert as a multiple of the fair share, averaged over the layers. */
export function relativeExpertLoad(expertLoad: readonly (readonly number[])[]): number[] {
  const experts = Math.max(0, ...expertLoad.map((layer) => layer.length));
  const relative = new Array<number>(experts).fill(0);
  for (const layer of expertLoad) {
    const total = layer.reduce((a, b) => a + b, 0);
    if (total === 0) continue;
    for (let expert = 0; expert < layer.length; expert++) {
      relative[expert]! += ((layer[expert] ?? 0) * layer.length) / total / expertLoad.length;
    }
  }
  return relative;
}
