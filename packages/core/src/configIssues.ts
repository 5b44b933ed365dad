/** Turns what zod found into lines that a person can act on: place, key, offending value, and what was expected. */

import type { z } from 'zod';
import { isInteger, schemasAt, sectionKeys } from './configSchema.ts';
import { type ConfigNode, formatSource, locate, plainValue, type Source } from './configTree.ts';
import { SluiceError } from './errors.ts';
import { nearest } from './nearest.ts';

type RawIssue = z.core.$ZodIssue;

/** One thing that is wrong with a configuration. */
export interface ConfigIssue extends Source {
  /** Dotted path of the key. */
  readonly path: string;
  readonly message: string;
  /** The nearest valid key or value. */
  readonly suggestion?: string;
}

const EXPECTED: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  object: 'a section of keys',
  record: 'a section of keys',
  array: 'a list',
};

const UNITS: Readonly<Record<string, string>> = { string: ' characters', array: ' items' };

const show = (value: unknown): string => {
  // JSON would make null of infinities and of NaN.
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
};

const dotted = (path: readonly PropertyKey[]): string => path.map(String).join('.');

/** The alternative of a union that the value came closest to: the one whose complaints lie deepest, then the fewest. */
function likeliestAlternative(errors: readonly (readonly RawIssue[])[]): readonly RawIssue[] {
  const depth = (issues: readonly RawIssue[]) =>
    Math.max(0, ...issues.map((issue) => issue.path.length + (issue.code === 'unrecognized_keys' ? 1 : 0)));
  return [...errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0] ?? [];
}

function describeRange(issue: z.core.$ZodIssueTooBig | z.core.$ZodIssueTooSmall): string {
  const unit = UNITS[issue.origin] ?? '';
  if (issue.code === 'too_big') {
    return `must be ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${unit}`;
  }
  return `must be ${issue.inclusive === false ? 'greater than' : 'at least'} ${issue.minimum}${unit}`;
}

function describe(
  issue: RawIssue,
  value: unknown,
  schemas: readonly z.core.$ZodType[],
): { message: string; suggestion?: string } {
  const got = value === undefined ? '' : `, got ${show(value)}`;
  if (issue.code === 'invalid_type') {
    // zod looks for any number first, and for a whole one only once it has a number.
    const isWhole = issue.expected === 'number' && schemas.length > 0 && schemas.every(isInteger);
    const expected = EXPECTED[isWhole ? 'int' : issue.expected] ?? issue.expected;
    return { message: value === undefined ? `missing; expected ${expected}` : `expected ${expected}${got}` };
  }
  if (issue.code === 'too_big' || issue.code === 'too_small')
    return { message: `${describeRange(issue)}${got}` };
  if (issue.code === 'not_multiple_of') return { message: `must be a multiple of ${issue.divisor}${got}` };
  const choices =
    issue.code === 'invalid_value'
      ? issue.values
      : issue.code === 'invalid_union'
        ? (issue as { options?: readonly unknown[] }).options
        : undefined;
  if (choices !== undefined) {
    const suggestion = typeof value === 'string' ? nearest(value, choices.map(String)) : undefined;
    const message = `${value === undefined ? 'missing; ' : ''}expected ${choices.length > 1 ? 'one of ' : ''}${choices.map(show).join(', ')}${got}`;
    return suggestion === undefined ? { message } : { message, suggestion };
  }
  // The message of a check of our own already says what is wrong with which value.
  return { message: issue.code === 'custom' ? issue.message : `${issue.message}${got}` };
}

function collect(
  issues: readonly RawIssue[],
  prefix: readonly PropertyKey[],
  schema: z.core.$ZodType,
  root: ConfigNode,
): ConfigIssue[] {
  return issues.flatMap((issue): ConfigIssue[] => {
    const path = [...prefix, ...issue.path];
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) =>
        unknownKey([...path, key], schemasAt(schema, path).flatMap(sectionKeys), root),
      );
    }
    if (issue.code === 'invalid_union' && issue.errors.length > 0) {
      return collect(likeliestAlternative(issue.errors), path, schema, root);
    }
    const { source, node } = locate(root, path);
    return [
      {
        ...source,
        path: dotted(path),
        ...describe(issue, node && plainValue(node), schemasAt(schema, path)),
      },
    ];
  });
}

function unknownKey(path: readonly PropertyKey[], known: readonly string[], root: ConfigNode): ConfigIssue {
  const parent = locate(root, path.slice(0, -1)).node;
  const entry = parent?.kind === 'section' ? parent.entries.get(String(path.at(-1))) : undefined;
  const value = entry?.node.kind === 'value' ? ` (value ${show(entry.node.value)})` : '';
  const suggestion = nearest(String(path.at(-1)), known);
  const message = suggestion === undefined && known.length > 0 ? `; known keys: ${known.join(', ')}` : '';
  return {
    ...(entry?.keySource ?? root.source),
    path: dotted(path),
    message: `unknown key${value}${message}`,
    ...(suggestion !== undefined && { suggestion: dotted([...path.slice(0, -1), suggestion]) }),
  };
}

/** One line of a report: place, key, what is wrong, and what was probably meant. */
function formatIssue(issue: ConfigIssue): string {
  const key = issue.path === '' ? '' : `${issue.path}: `;
  const suggestion = issue.suggestion === undefined ? '' : `; did you mean ${issue.suggestion}?`;
  return `${formatSource(issue)}  ${key}${issue.message}${suggestion}`;
}

/** The error that reports every issue, one a line, in the order in which they stand in the files. */
export function invalidConfig(issues: readonly ConfigIssue[]): SluiceError {
  const sorted = [...issues].sort(
    (a, b) =>
      (a.file < b.file ? -1 : a.file > b.file ? 1 : 0) ||
      (a.line ?? 0) - (b.line ?? 0) ||
      (a.column ?? 0) - (b.column ?? 0),
  );
  return new SluiceError('SLUICE_E_CONFIG_INVALID', sorted.map(formatIssue).join('\n'), {
    details: { issues: sorted },
  });
}

/** Everything that zod found wrong with the value of `root`, each with the place where it was written. */
export function configIssues(
  error: z.core.$ZodError,
  schema: z.core.$ZodType,
  root: ConfigNode,
): ConfigIssue[] {
  return collect(error.issues, [], schema, root);
}
