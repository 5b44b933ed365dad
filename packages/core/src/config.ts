/**
 * Configuration files: YAML checked by a zod schema. Files may extend and include one another, and single keys can be
 * overridden. A mistake is reported with file, line, column, the value, and the nearest valid key; all at once.
 */

import { existsSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import type { z } from 'zod';
import { configIssues, invalidConfig } from './configIssues.ts';
import { allKeyPaths, childSchemas, isPath, isSection, schemasAt, sectionKeys } from './configSchema.ts';
import {
  type ConfigNode,
  formatSource,
  mergeTrees,
  parseYaml,
  plainValue,
  type SectionNode,
  type Source,
  treeOf,
} from './configTree.ts';
import { SluiceError } from './errors.ts';
import { nearest } from './nearest.ts';
import { shippedPath } from './shippedFile.ts';
import { readTextFile } from './textFile.ts';

export type { ConfigIssue } from './configIssues.ts';

export interface LoadOptions {
  /** `section.key=value` each, the value being YAML; applied in order, over the file. */
  readonly overrides?: readonly string[];
  /** Where the file holds but one section of what the schema describes: its key, and what stands beside it. */
  readonly section?: { readonly key: string; readonly beside: Readonly<Record<string, unknown>> };
}

/**
 * Loads and checks a configuration.
 *
 * - `extends: base.yaml` at the top of a file lays the file over another one; a null removes an inherited key.
 * - A path in the place of a section (`model: models/small.yaml`) includes that file there.
 * - Both are relative to the file that says so, in an override to the main file; where none is there, `configs/…` is what comes with Sluice.
 * - A text field with `.meta({ format: 'path' })` is kept relative to the main file, wherever it was written.
 *
 * @returns the checked value with all defaults, deeply frozen
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_CONFIG_SYNTAX, SLUICE_E_CONFIG_OVERRIDE for a malformed
 *   override or one that names no key, SLUICE_E_CONFIG_INVALID with every other issue, one a line
 */
export function loadYamlConfig<Schema extends z.ZodType>(
  path: string,
  schema: Schema,
  options: LoadOptions = {},
): z.output<Schema> {
  let root = loadWhole(path, schema, options.section);
  const problems: string[] = [];
  for (const text of options.overrides ?? []) {
    const patch = parseOverride(text, path, schema);
    if (typeof patch === 'string') problems.push(patch);
    else root = mergeTrees(root, includeFiles(patch, path, schema, [resolve(path)]));
  }
  if (problems.length > 0) throw new SluiceError('SLUICE_E_CONFIG_OVERRIDE', problems.join('\n'));
  return check(rebasePaths(root, schema, path), schema);
}

/**
 * Checks a plain value, such as a configuration saved with a run, with the same messages.
 * @param source what to call the place where the value came from
 * @param overrides as those of `--set`; they name no files
 * @throws SLUICE_E_CONFIG_INVALID, SLUICE_E_CONFIG_OVERRIDE
 */
export function parseConfig<Schema extends z.ZodType>(
  value: unknown,
  schema: Schema,
  source: string,
  overrides: readonly string[] = [],
): z.output<Schema> {
  let root = treeOf(value, { file: source });
  for (const text of overrides) {
    const patch = parseOverride(text, source, schema);
    if (typeof patch === 'string') throw new SluiceError('SLUICE_E_CONFIG_OVERRIDE', patch);
    root = mergeTrees(root, patch);
  }
  return check(root, schema);
}

function check<Schema extends z.ZodType>(root: ConfigNode, schema: Schema): z.output<Schema> {
  const result = schema.safeParse(plainValue(root));
  if (!result.success) throw invalidConfig(configIssues(result.error, schema, root));
  return deepFreeze(result.data);
}

/** The file, or, where that is one section, a tree that has it in its place. */
function loadWhole(path: string, schema: z.core.$ZodType, section: LoadOptions['section']): ConfigNode {
  if (section === undefined) return loadFile(path, schema, []);
  const { key, beside } = section;
  const source: Source = { file: path };
  const node = loadFile(path, childSchemas(schema, key)[0]!, []);
  const own: ConfigNode = { kind: 'section', source, entries: new Map([[key, { keySource: source, node }]]) };
  return mergeTrees(treeOf(beside, source), own);
}

/** Reads one file with what it extends and includes; `stack` holds the files that are being read, absolute. */
function loadFile(
  path: string,
  schema: z.core.$ZodType,
  stack: readonly string[],
  mention?: Source,
): ConfigNode {
  const absolute = resolve(path);
  if (stack.includes(absolute)) {
    const cycle = [...stack.slice(stack.indexOf(absolute)), absolute].map((file) => relative('', file));
    throw invalidConfig([
      { ...mention!, path: '', message: `the file includes itself: ${cycle.join(' → ')}` },
    ]);
  }
  const text = readTextFile(path, mention && formatSource(mention));
  let root = parseYaml(text, (line, column) => ({ file: path, line, column }));
  if (root.kind === 'value' && root.value === null) {
    root = { kind: 'section', source: root.source, entries: new Map() };
  }
  if (root.kind !== 'section') return root;
  const within = [...stack, absolute];
  const base = takeBase(root, path, schema, within);
  const own = includeFiles(root, path, schema, within);
  return base === undefined ? own : mergeTrees(base, own);
}

/** Takes the key `extends` out of a file's root and loads the file that it names. */
function takeBase(
  root: SectionNode,
  path: string,
  schema: z.core.$ZodType,
  stack: readonly string[],
): ConfigNode | undefined {
  const entry = root.entries.get('extends');
  if (entry === undefined || sectionKeys(schema).includes('extends')) return undefined;
  if (entry.node.kind !== 'value' || typeof entry.node.value !== 'string') {
    throw invalidConfig([
      { ...entry.node.source, path: 'extends', message: 'expected the path of a YAML file' },
    ]);
  }
  root.entries.delete('extends');
  return loadFile(namedFile(path, entry.node.value), schema, stack, entry.node.source);
}

/** The file that another names: beside that one, or, where none is there, the one that comes with Sluice by this name. */
function namedFile(path: string, name: string): string {
  const beside = resolvePath(path, name);
  return existsSync(beside) ? beside : (shippedPath(name) ?? beside);
}

/** Replaces the path of a YAML file that stands where the schema wants a section by what the file holds. */
function includeFiles(
  node: ConfigNode,
  path: string,
  schema: z.core.$ZodType,
  stack: readonly string[],
): ConfigNode {
  if (node.kind !== 'section') return node;
  const entries: SectionNode['entries'] = new Map();
  for (const [key, entry] of node.entries) {
    const [child] = childSchemas(schema, key);
    const value = entry.node.kind === 'value' ? entry.node.value : undefined;
    const included =
      child !== undefined && typeof value === 'string' && /\.ya?ml$/.test(value) && isSection(child);
    const replaced = included
      ? loadFile(namedFile(path, value), child, stack, entry.node.source)
      : child === undefined
        ? entry.node
        : includeFiles(entry.node, path, child, stack);
    entries.set(key, { keySource: entry.keySource, node: replaced });
  }
  return { ...node, entries };
}

/** The patch that an override stands for, or what is wrong with it. */
function parseOverride(text: string, path: string, schema: z.core.$ZodType): ConfigNode | string {
  const equals = text.indexOf('=');
  if (equals <= 0) return `--set ${text}  is not of the form section.key=value`;
  const keys = text.slice(0, equals).trim().split('.');
  const unknown = keys.findIndex((_, index) => schemasAt(schema, keys.slice(0, index + 1)).length === 0);
  if (unknown >= 0) return unknownOverride(text, keys, unknown, schema);
  const source: Source = { file: path, override: text };
  try {
    const value = parseYaml(text.slice(equals + 1), () => source);
    return keys.reduceRight<ConfigNode>(
      (node, key) => ({ kind: 'section', source, entries: new Map([[key, { keySource: source, node }]]) }),
      value,
    );
  } catch (error) {
    if (error instanceof SluiceError) return error.message;
    throw error;
  }
}

function unknownOverride(
  text: string,
  keys: readonly string[],
  index: number,
  schema: z.core.$ZodType,
): string {
  const key = keys[index]!;
  const known = schemasAt(schema, keys.slice(0, index)).flatMap(sectionKeys);
  const sibling = nearest(key, known);
  // All that is unknown must be there: a `weightDecay` of something else is not what `groups.foo.weightDecay` means.
  const rest = keys.slice(index).join('.');
  const elsewhere = allKeyPaths(schema).find((path) => path.endsWith(`.${rest}`));
  const suggestion = elsewhere ?? (sibling && [...keys.slice(0, index), sibling].join('.'));
  const list = known.length > 0 ? `; known keys: ${known.join(', ')}` : '';
  const hint = suggestion === undefined ? list : `; did you mean ${suggestion}?`;
  return `--set ${text}  unknown key ${keys.slice(0, index + 1).join('.')}${hint}`;
}

/** Rewrites relative paths that were written in another directory's file as relative to the main file. */
function rebasePaths(node: ConfigNode, schema: z.core.$ZodType, path: string): ConfigNode {
  if (node.kind === 'section') {
    const entries: SectionNode['entries'] = new Map();
    for (const [key, entry] of node.entries) {
      const [child] = childSchemas(schema, key);
      entries.set(
        key,
        child === undefined ? entry : { ...entry, node: rebasePaths(entry.node, child, path) },
      );
    }
    return { ...node, entries };
  }
  if (node.kind === 'list') {
    const items = node.items.map((item, index) => {
      const [child] = childSchemas(schema, index);
      return child === undefined ? item : rebasePaths(item, child, path);
    });
    return { ...node, items };
  }
  const { value, source } = node;
  if (typeof value !== 'string' || isAbsolute(value) || dirname(source.file) === dirname(path)) return node;
  if (!isPath(schema)) return node;
  return { ...node, value: relative(dirname(path), join(dirname(source.file), value)) };
}

/** The path that `value`, written in the configuration file `configPath`, stands for. */
export function resolvePath(configPath: string, value: string): string {
  return isAbsolute(value) ? value : join(dirname(configPath), value);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) deepFreeze(item);
  }
  return value;
}
