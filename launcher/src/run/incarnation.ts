/**
 * Tells starts of one thing apart: of two agents of a node, or two coordinators of a run, that both believe that they are the
 * one, the later counts. Schedulers that start something anew may leave the old one running where they cannot see it.
 */

import { SluiceError } from '@sluice/core';
import { z } from 'zod';

/** Two numbers, compared in order. */
export const Incarnation = z.tuple([z.int().min(0), z.int().min(0)]);
export type Incarnation = z.infer<typeof Incarnation>;

/** Whether `a` is the later of two. */
export function isLater(a: Incarnation, b: Incarnation): boolean {
  return a[0] > b[0] || (a[0] === b[0] && a[1] > b[1]);
}

/**
 * That of this process, as whoever started it says: SLUICE_INCARNATION, a number or NUMBER.NUMBER.
 * @throws SLUICE_E_USAGE
 */
export function givenIncarnation(environment: NodeJS.ProcessEnv = process.env): Incarnation | undefined {
  const text = environment.SLUICE_INCARNATION;
  if (text === undefined) return undefined;
  const [, first, second = '0'] = /^(\d{1,15})(?:\.(\d{1,15}))?$/.exec(text) ?? [];
  if (first === undefined) {
    throw new SluiceError('SLUICE_E_USAGE', `SLUICE_INCARNATION is ${text}, no number and no NUMBER.NUMBER.`);
  }
  return [Number(first), Number(second)];
}
