/** All controls. A new one is a file beside this one and a line here. */

import type * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { BlockContext, BlockSizes, LayerTensor } from '../block.ts';
import type { Width } from '../widths.ts';
import { attentionSink } from './attentionSink.ts';
import { clipOutputs } from './clipOutputs.ts';
import type { Caps, Control } from './control.ts';
import { sandwichNorm } from './sandwichNorm.ts';
import { sdpaNorm } from './sdpaNorm.ts';
import { sdpaSilu } from './sdpaSilu.ts';
import { softcap } from './softcap.ts';
import { switchHead } from './switchHead.ts';

const CONTROLS = [sdpaNorm, sdpaSilu, switchHead, attentionSink, sandwichNorm, clipOutputs, softcap] as const;

type SettingsOf<C> = C extends Control<infer Settings> ? Settings : never;

export type ControlConfig = SettingsOf<(typeof CONTROLS)[number]>;

type AnyControl = Control<ControlConfig>;
type DiscriminatedSchemas = Parameters<typeof z.discriminatedUnion>[1];

export const ControlConfig = z.discriminatedUnion(
  'kind',
  CONTROLS.map(({ schema }) => schema) as unknown as DiscriminatedSchemas,
) as unknown as z.ZodType<ControlConfig>;

const BY_KIND = new Map(CONTROLS.map((control) => [kindOf(control), control as unknown as AnyControl]));

function kindOf({ schema }: { schema: z.ZodType }): string {
  const { kind } = (schema as unknown as z.ZodObject<{ kind: z.ZodLiteral<string> }>).shape;
  return kind.value;
}

/** Why a list of controls cannot be had: for each reason, the place in the list. */
export function controlRefusals(
  controls: readonly ControlConfig[],
  sizes: BlockSizes,
): { index: number; reason: string }[] {
  return controls.flatMap((settings, index) => {
    const isSecond = controls.findIndex(({ kind }) => kind === settings.kind) < index;
    const reason = isSecond
      ? `the control ${settings.kind} a second time`
      : BY_KIND.get(settings.kind)!.refusal?.(settings, sizes);
    return reason === undefined ? [] : [{ index, reason }];
  });
}

/** Those that work on what blocks add to the residual stream, whatever mixes the tokens. */
export function blockControls(controls: readonly ControlConfig[]): ControlConfig[] {
  return controls.filter(({ kind }) => BY_KIND.get(kind)!.blockOutput);
}

/** A control with the settings that a model gives it. */
export interface ActiveControl {
  readonly control: AnyControl;
  readonly settings: ControlConfig;
}

export function activeControls(model: { readonly controls: readonly ControlConfig[] }): ActiveControl[] {
  return model.controls.map((settings) => ({ control: BY_KIND.get(settings.kind)!, settings }));
}

type Model = BlockSizes & { readonly controls: readonly ControlConfig[] };

export function controlTensors(model: Model): LayerTensor[] {
  return activeControls(model).flatMap(({ control, settings }) => control.tensors?.(settings, model) ?? []);
}

/** Channels that attention's kernels have of each head beyond its own. */
export function extraChannels(model: Pick<Model, 'controls'>): number {
  const ofEach = activeControls(model).map(({ control, settings }) => control.extraChannels?.(settings) ?? 0);
  return ofEach.reduce((sum, channels) => sum + channels, 0);
}

/** Parameters of a layer that one token does not pass through. */
export function idleControlParameters(model: Model): number {
  const counts = activeControls(model).map(
    ({ control, settings }) => control.idleParameters?.(settings, model) ?? 0,
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Widths of the tensors that the controls make a layer keep for the backward pass. */
export function keptControlWidths(model: Model): Width[] {
  return activeControls(model).flatMap(
    ({ control, settings }) => control.keptWidths?.(settings, model) ?? [],
  );
}

/** The same of what their gradients need, one after the other. */
export function controlGradientWidths(model: Model): Width[] {
  const ofEach = activeControls(model).map(({ control }) => control.gradientWidths?.(model) ?? []);
  return ofEach.flat();
}

/** Copies of the key and value projections. */
export function projectionCopies(model: Model): { key: number; value: number } {
  const copied = activeControls(model).find(({ control }) => control.copies);
  return copied ? copied.control.copies!(copied.settings) : { key: 1, value: 1 };
}

/** The caps that the controls ask for. */
export function controlCaps(model: { readonly controls: readonly ControlConfig[] }): Caps {
  return Object.assign({}, ...activeControls(model).map(({ control, settings }) => control.caps?.(settings)));
}

/** What the controls make of a block's output, in their order. */
export function applyToBlockOutput(
  controls: readonly ActiveControl[],
  y_NC: tf.Tensor2D,
  block: 'attention' | 'feedForward',
  context: BlockContext,
): tf.Tensor2D {
  return controls.reduce(
    (y, { control, settings }) => control.blockOutput?.(settings, y, block, context) ?? y,
    y_NC,
  );
}
