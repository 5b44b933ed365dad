/**
 * The backward pass. The operations, their tape and their gradient functions are TensorFlow.js's; walking the tape is done
 * here, because TensorFlow.js frees gradients and saved tensors only at the very end, and because knowing that a gradient
 * has one owner allows to add to it in place.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { addResidual } from './ops/addResidual.ts';
import { whenRead, withReads } from './reads.ts';
import { currentAnchor, withRecording } from './tape.ts';

type Engine = ReturnType<typeof tf.engine>;
type TapeNode = Engine['state']['activeTape'][number];

/** The two methods of the engine that begin and end a tape, which its type declarations keep to themselves. */
interface TapeSwitch {
  startTape(): void;
  endTape(): void;
}

/**
 * Runs `forward`, then backward from the scalar that it returns. Every parameter's gradient goes to its sink. Whatever is
 * thrown on the way, no tensor or buffer stays behind. For backends whose values can be read at once.
 * @returns the value of the scalar
 */
export function computeGradients(forward: () => tf.Scalar): number {
  return withRecording((anchor) => {
    const loss = forwardAndBackward(forward, anchor);
    try {
      return loss.dataSync()[0]!;
    } finally {
      loss.dispose();
    }
  });
}

/**
 * As `computeGradients`, on every backend: where values can only be awaited, they are read, and the gradients go to their
 * sinks, in the same order, when the backward pass is over.
 */
export async function computeGradientsAsync(forward: () => tf.Scalar): Promise<number> {
  let value = Number.NaN;
  await withReads(() => {
    const loss = withRecording((anchor) => forwardAndBackward(forward, anchor));
    whenRead([loss], (values) => {
      value = values[0]!;
    });
    loss.dispose();
  });
  return value;
}

/** @returns the scalar, which belongs to the caller */
function forwardAndBackward(forward: () => tf.Scalar, anchor: tf.Scalar): tf.Scalar {
  const tape: TapeNode[] = [];
  try {
    const loss = record(forward, tape);
    try {
      tf.tidy(() => backpropagate(loss, anchor, tape));
    } catch (error) {
      loss.dispose();
      throw error;
    }
    return loss;
  } finally {
    for (const node of tape) release(node);
  }
}

/**
 * The gradients of `compute` at `inputs`, inside of a backward pass that goes on outside. Parameters' gradients go to
 * their sinks.
 * @param dy gradient of the result of `compute`
 */
export function gradientsAt(
  inputs: readonly tf.Tensor[],
  compute: (...inputs: tf.Tensor[]) => tf.Tensor,
  dy: tf.Tensor,
): tf.Tensor[] {
  const tape: TapeNode[] = [];
  // Handles of their own, since the same tensor may be there twice.
  const handles = inputs.map((input) => input.clone());
  try {
    const sources = [...handles];
    const result = record(() => {
      const anchor = currentAnchor();
      if (anchor) sources.push(anchor);
      return compute(...handles);
    }, tape);
    const gradients = new Map([[result.id, dy.clone()]]);
    const wanted = dependents(sources, tape);
    if (sources.length > handles.length) wanted.delete(sources.at(-1)!.id);
    walk(tape, gradients, wanted);
    result.dispose();
    return handles.map((handle) => takeGradient(gradients, handle) ?? tf.fill(handle.shape, 0));
  } finally {
    for (const node of tape) release(node);
    tf.dispose(handles);
  }
}

/** Runs `forward` and fills `tape`, also when it throws. */
function record<T extends tf.Tensor>(forward: () => T, tape: TapeNode[]): T {
  const engine = tf.engine();
  const { startTape, endTape } = engine as unknown as TapeSwitch;
  invariant(engine.state.gradientDepth === 0, 'no gradient of a gradient is computed');
  startTape.call(engine);
  try {
    return tf.tidy('forward', forward);
  } finally {
    endTape.call(engine);
    tape.push(...engine.state.activeTape);
    engine.state.activeTape = [];
  }
}

function release(node: TapeNode): void {
  for (const tensor of node.saved ?? []) tensor.dispose();
}

function backpropagate(loss: tf.Scalar, anchor: tf.Scalar, tape: TapeNode[]): void {
  const fromAnchor = dependents([anchor], tape);
  if (!fromAnchor.has(loss.id)) throw new Error('The loss depends on no parameter, so it has no gradient.');
  fromAnchor.delete(anchor.id);
  walk(tape, new Map([[loss.id, tf.scalar(1) as tf.Tensor]]), fromAnchor);
}

/**
 * Walks the tape from its end and empties it.
 * @param gradients known ones by identifiers of tensors; those of tensors that no node of the tape made stay in it
 * @param wanted identifiers of the tensors that need a gradient
 */
function walk(tape: TapeNode[], gradients: Map<number, tf.Tensor>, wanted: ReadonlySet<number>): void {
  for (let node = tape.at(-1); node; node = tape.at(-1)) {
    const dys = node.outputs.map((output) => takeGradient(gradients, output));
    if (dys.some((dy) => dy !== undefined)) passBack(node, dys, wanted, gradients);
    release(node);
    tape.pop();
  }
}

/** Identifiers of `sources` and of the tensors that were computed from them. */
function dependents(sources: readonly tf.Tensor[], tape: readonly TapeNode[]): Set<number> {
  const found = new Set(sources.map(({ id }) => id));
  for (const { inputs, outputs } of tape) {
    let isDependent = false;
    for (const name in inputs) isDependent ||= found.has(inputs[name]!.id);
    // Whole numbers have no gradient.
    if (isDependent) for (const { id, dtype } of outputs) if (dtype === 'float32') found.add(id);
  }
  return found;
}

function takeGradient(gradients: Map<number, tf.Tensor>, { id }: tf.Tensor): tf.Tensor | undefined {
  const gradient = gradients.get(id);
  gradients.delete(id);
  return gradient;
}

/** Turns the gradients of a node's outputs into those of `wanted` inputs, which are added to `gradients`, and frees the former. */
function passBack(
  node: TapeNode,
  known: readonly (tf.Tensor | undefined)[],
  wanted: ReadonlySet<number>,
  gradients: Map<number, tf.Tensor>,
): void {
  if (!node.gradient) throw new Error(`The operation ${node.kernelName} has no gradient.`);
  const dys = known.map((dy, i) => dy ?? noGradient(node.outputs[i]!));
  const outside = tf.engine().state.activeScope.id;
  const inputs: tf.Tensor[] = [];
  const results = tf.tidy(() => {
    const functions = node.gradient!(dys);
    const results: tf.Tensor[] = [];
    for (const name in node.inputs) {
      const x = node.inputs[name]!;
      if (!wanted.has(x.id)) continue;
      const result = functions[name]!();
      checkGradient(node, name, result, x);
      inputs.push(x);
      results.push(result);
    }
    return results;
  });
  const handedOn: tf.Tensor[] = [];
  const owned = results.map((result) => {
    // What was made in there, or handed in, has no other owner; anything else is somebody's, and may only be shared.
    const isOurs = !result.kept && result.scopeId === outside && !handedOn.includes(result);
    if (isOurs) handedOn.push(result);
    return isOurs ? result : result.clone();
  });
  for (const [i, { id }] of inputs.entries()) {
    const before = gradients.get(id);
    gradients.set(id, before ? sum(before, owned[i]!) : owned[i]!);
  }
  for (const dy of dys) if (!handedOn.includes(dy)) dy.dispose();
}

/** Of an output on which the loss does not depend; where that is whole numbers, nobody looks at it. */
function noGradient({ shape, dtype }: tf.Tensor): tf.Tensor {
  return tf.fill(dtype === 'float32' ? shape : [0], 0);
}

function checkGradient(node: TapeNode, name: string, gradient: tf.Tensor, x: tf.Tensor): void {
  const matches = gradient.dtype === 'float32' && tf.util.arraysEqual(gradient.shape, x.shape);
  // A text is made where there is something to say.
  if (!matches)
    invariant(
      false,
      `the gradient of ${node.kernelName} for "${name}" is ${gradient.dtype} [${gradient.shape}], its input [${x.shape}]`,
    );
}

/** a + b in the memory of either, where nobody else holds it; both are freed. */
function sum(a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  const isShared = tf.backend().refCount(b.dataId) > 1;
  const total = isShared ? addResidual(b, a) : addResidual(a, b);
  tf.dispose([a, b]);
  return total;
}
