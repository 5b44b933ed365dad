/** All families. A new one is a file beside this one, a line here, and its name among the layouts. */

import type { HuggingFaceLayout } from '../layouts.ts';
import { afmoe } from './afmoe.ts';
import type { Family, FamilyLayout } from './family.ts';
import { kimiLinear } from './kimiLinear.ts';
import { laguna } from './laguna.ts';
import { lfm3 } from './lfm3.ts';
import { museGlimmer } from './museGlimmer.ts';
import { olmoHybrid } from './olmoHybrid.ts';
import { qwen3Next } from './qwen3Next.ts';
import { qwen35, qwen35Moe } from './qwen35.ts';
import { step35 } from './step35.ts';

/** Where several can say a model, the first is proposed. */
export const FAMILIES: readonly Family[] = [
  qwen35,
  qwen3Next,
  qwen35Moe,
  afmoe,
  laguna,
  lfm3,
  museGlimmer,
  olmoHybrid,
  step35,
  kimiLinear,
];

/** The family that a layout is of; undefined for the layouts of one kind of layers. */
export function familyOf(layout: HuggingFaceLayout): Family | undefined {
  return FAMILIES.find((family) => [family.layout, family.perExpertLayout].includes(layout as FamilyLayout));
}

/** The family whose text models call themselves so. */
export function familyOfType(modelType: unknown): Family | undefined {
  return FAMILIES.find(({ modelTypes }) => modelTypes.includes(modelType as string));
}

/** The family whose text models lie in models that call themselves so. */
export function familyOfWrapper(modelType: unknown): Family | undefined {
  return FAMILIES.find(({ wrapperTypes }) => wrapperTypes.includes(modelType as string));
}
