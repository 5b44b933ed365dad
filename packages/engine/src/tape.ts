/**
 * What is being recorded for a backward pass.
 *
 * A tape leads from its inputs to the result. Parameters are no inputs, since their gradients take another way, so one
 * scalar, the anchor, stands for them all: an operation that brings in a parameter has it as an additional input.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';

/** Something that a recorded operation keeps for its gradient, outside of the tape. */
interface Releasable {
  free(): void;
}

interface Recording {
  readonly anchor: tf.Scalar;
  /** What is still kept; the gradients free it one by one. */
  readonly kept: Set<Releasable>;
}

let recording: Recording | undefined;

/** Whether operations called now are recorded. */
export function isRecording(): boolean {
  return recording !== undefined && tf.engine().isTapeOn();
}

/** The scalar on which everything recorded depends, or undefined when nothing is recorded. */
export function currentAnchor(): tf.Scalar | undefined {
  return isRecording() ? recording?.anchor : undefined;
}

/** Whether the kernel that runs now is recorded. (The tape is off inside of kernels, and stays off in those they call.) */
export function isKernelRecorded(): boolean {
  const { gradientDepth, kernelDepth } = tf.engine().state;
  return gradientDepth > 0 && kernelDepth === 1;
}

/** Whether the gradients handed to gradient functions now belong to these alone. */
export function ownsGradients(): boolean {
  return recording !== undefined && !tf.engine().isTapeOn();
}

/** Sees to it that `kept` is freed when the recording ends, whatever happens. */
export function keepWhileRecording(kept: Releasable): void {
  recording?.kept.add(kept);
}

export function noLongerKept(kept: Releasable): void {
  recording?.kept.delete(kept);
}

/** Runs `compute` off the tape, so that no gradient goes through its result. */
export function withoutGradient<T extends tf.Tensor>(compute: () => T): T {
  // A node of the tape without inputs leads nowhere.
  return tf.customGrad(() => ({ value: tf.tidy(compute), gradFunc: () => [] }))() as T;
}

/** Runs `body` with an anchor; frees in the end what no gradient freed. */
export function withRecording<T>(body: (anchor: tf.Scalar) => T): T {
  invariant(!recording, 'computeGradients calls do not nest');
  const anchor = tf.scalar(0);
  const kept = new Set<Releasable>();
  recording = { anchor, kept };
  try {
    return body(anchor);
  } finally {
    for (const releasable of [...kept]) releasable.free();
    recording = undefined;
    anchor.dispose();
  }
}
