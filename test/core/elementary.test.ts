import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { elementary } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';

const { cos, exp, log, power, sin, sinCos } = elementary;

/** Whether `actual` is `expected` to `relative`, or both are the same special value. */
const isNear = (actual: number, expected: number, relative: number): boolean =>
  Object.is(actual, expected) || Math.abs(actual - expected) <= relative * Math.abs(expected);

const anyNumber = fc.double({ noNaN: true });
const positive = fc.double({ min: Number.MIN_VALUE, noNaN: true });

test('logarithms and exponentials agree with those of the engine', (t) => {
  fc.assert(
    fc.property(positive, (x) => t.true(isNear(log(x), Math.log(x), 1e-15), `log ${x}`)),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.double({ min: -700, max: 709.7, noNaN: true }), (x) =>
      t.true(isNear(exp(x), Math.exp(x), 1e-15), `exp ${x}`),
    ),
    { numRuns: 2000 },
  );
});

test('a logarithm near 1 loses nothing', (t) => {
  fc.assert(
    fc.property(fc.double({ min: 0.5, max: 2, noNaN: true }), (x) =>
      t.true(isNear(log(x), Math.log(x), 1e-15), `log ${x}`),
    ),
    { numRuns: 2000 },
  );
});

test('sines and cosines agree with those of the engine, up to a million turns', (t) => {
  fc.assert(
    fc.property(fc.double({ min: -6e6, max: 6e6, noNaN: true }), (angle) => {
      t.true(Math.abs(sin(angle) - Math.sin(angle)) < 3e-16, `sin ${angle}`);
      t.true(Math.abs(cos(angle) - Math.cos(angle)) < 3e-16, `cos ${angle}`);
      t.deepEqual(sinCos(angle), [sin(angle), cos(angle)]);
    }),
    { numRuns: 2000 },
  );
});

test('powers agree with those of the engine; small whole ones are exact', (t) => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.5, max: 1e6, noNaN: true }),
      fc.double({ min: -2, max: 2, noNaN: true }),
      (base, exponent) => {
        t.true(isNear(power(base, exponent), base ** exponent, 1e-14), `${base} ^ ${exponent}`);
      },
    ),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.integer({ min: 0, max: 33 }), (n) => t.is(power(3, n), 3 ** n)));
  t.is(power(10, -2), 0.01);
});

test('what has no finite value is told as JavaScript tells it', (t) => {
  const specials = [0, -0, -1, 1, Number.MIN_VALUE, Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.NaN];
  for (const x of specials) t.true(isNear(log(x), Math.log(x), 1e-15), `log ${x}`);
  for (const x of [...specials, Number.NEGATIVE_INFINITY, 710, -746, -744]) {
    t.true(isNear(exp(x), Math.exp(x), 1e-15), `exp ${x}`);
  }
  fc.assert(fc.property(anyNumber, (x) => t.false(Number.isNaN(exp(x)))));
});

/**
 * Files whose numbers enter neither weights nor what a hash names, so that the engine's functions serve: what is only
 * measured, drawn or printed, and the definitions that kernels are tested against.
 */
const MAY_USE_MATH = [
  /^launcher\//,
  /^packages\/observe\//,
  /^packages\/evaluate\/src\/inferenceModel\.ts$/,
  /^packages\/engine\/src\/(pool|attentionStatistics)\.ts$/,
  /^packages\/engine\/src\/cuda\/cases\//,
  /^packages\/train\/src\/(diagnostics|plan)\//,
];

test('what enters weights or hashes does not use functions whose bits JavaScript leaves open', (t) => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const inexact = /Math\.(sin|cos|tan|a?tanh?|exp|expm1|log|log2|log10|log1p|pow|cbrt|hypot)\b/;
  const sources = ['packages', 'launcher'].flatMap((top) =>
    readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
      .map((path) => `${top}/${path}`)
      .filter((path) => /\/src\/.*\.ts$/.test(path) && !/node_modules|\/dist\//.test(path)),
  );
  t.true(sources.length > 100);
  const code = (text: string) => text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
  const users = sources.filter((path) => inexact.test(code(readFileSync(join(root, path), 'utf8'))));
  t.deepEqual(
    users.filter((path) => !MAY_USE_MATH.some((pattern) => pattern.test(path))),
    [],
  );
});
