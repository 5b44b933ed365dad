/**
 * A configuration as a tree whose every key and value remembers where it was written: file, line and column, or the
 * override that set it. Files that extend or include one another are merged on such trees, so that a complaint about
 * the merged whole still names the right place.
 */

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type ParsedNode,
  parseDocument,
} from 'yaml';
import { SluiceError } from './errors.ts';

/** Where a key or a value was written. */
export interface Source {
  /** Path of the file as it was reached, or a name for a value that came from no file. */
  readonly file: string;
  /** From 1; absent when the value came from no file. */
  readonly line?: number;
  readonly column?: number;
  /** The text after `--set`, when the value came from there. */
  readonly override?: string;
}

export interface SectionNode {
  readonly kind: 'section';
  readonly source: Source;
  readonly entries: Map<string, { readonly keySource: Source; readonly node: ConfigNode }>;
}

export interface ListNode {
  readonly kind: 'list';
  readonly source: Source;
  readonly items: readonly ConfigNode[];
}

export interface ValueNode {
  readonly kind: 'value';
  readonly source: Source;
  readonly value: unknown;
}

export type ConfigNode = SectionNode | ListNode | ValueNode;

/** Anchors make it possible to write a small file that stands for a huge one; no configuration needs so many nodes. */
const MAXIMUM_NODES = 100_000;

/** `file:line:column`, or what is known of it; `--set …` for an override. */
export function formatSource(source: Source): string {
  if (source.override !== undefined) return `--set ${source.override}`;
  return source.line === undefined ? source.file : `${source.file}:${source.line}:${source.column}`;
}

/**
 * Parses YAML text.
 * @param place makes the source of what starts at a line and a column (both from 1)
 * @throws SLUICE_E_CONFIG_SYNTAX with every place where the text is not valid YAML
 */
export function parseYaml(text: string, place: (line: number, column: number) => Source): ConfigNode {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const at = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return place(Math.max(line, 1), Math.max(col, 1));
  };
  const faults = [...document.errors, ...document.warnings].map((e) => ({
    source: at(e.pos[0]),
    // The parser's own text speaks of its functions.
    text:
      e.code === 'MULTIPLE_DOCS' ? 'a second document begins here, and a configuration is one' : e.message,
  }));
  if (faults.length > 0) throw syntaxError(faults);
  if (document.contents === null) return { kind: 'value', source: at(0), value: null };
  return convert(document, document.contents, at);
}

function syntaxError(faults: readonly { source: Source; text: string }[]): SluiceError {
  const lines = faults.slice(0, 10).map(({ source, text }) => `${formatSource(source)}  ${text}`);
  return new SluiceError('SLUICE_E_CONFIG_SYNTAX', lines.join('\n'), {
    details: { issues: faults.map(({ source, text }) => ({ ...source, message: text })) },
  });
}

function convert(document: Document.Parsed, root: ParsedNode, at: (offset: number) => Source): ConfigNode {
  let count = 0;
  const open = new Set<unknown>();
  const visit = (node: ParsedNode | null, fallback: Source): ConfigNode => {
    if (node === null) return { kind: 'value', source: fallback, value: null };
    const source = at(node.range[0]);
    if (++count > MAXIMUM_NODES) throw syntaxError([{ source, text: `more than ${MAXIMUM_NODES} values` }]);
    if (isAlias(node)) {
      const target = node.resolve(document) as ParsedNode | undefined;
      if (target === undefined || open.has(target)) {
        throw syntaxError([{ source, text: `the alias *${node.source} contains itself or names nothing` }]);
      }
      return visit(target, source);
    }
    if (isScalar(node)) return { kind: 'value', source, value: node.value };
    open.add(node);
    const converted = isSeq(node) ? list(node.items, source) : section(node, source);
    open.delete(node);
    return converted;
  };
  const list = (items: readonly unknown[], source: Source): ListNode => ({
    kind: 'list',
    source,
    items: items.map((item) => visit(item as ParsedNode | null, source)),
  });
  const section = (node: ParsedNode, source: Source): SectionNode => {
    const entries: SectionNode['entries'] = new Map();
    for (const pair of isMap(node) ? node.items : []) {
      const key = pair.key as ParsedNode;
      const keySource = at(key.range[0]);
      if (!isScalar(key)) throw syntaxError([{ source: keySource, text: 'a key must be plain text' }]);
      entries.set(String(key.value), { keySource, node: visit(pair.value as ParsedNode | null, keySource) });
    }
    return { kind: 'section', source, entries };
  };
  return visit(root, at(0));
}

/** A tree of a plain value that came from no file. */
export function treeOf(value: unknown, source: Source): ConfigNode {
  if (Array.isArray(value)) return { kind: 'list', source, items: value.map((item) => treeOf(item, source)) };
  if (typeof value !== 'object' || value === null) return { kind: 'value', source, value };
  const entries: SectionNode['entries'] = new Map();
  for (const [key, item] of Object.entries(value)) {
    entries.set(key, { keySource: source, node: treeOf(item, source) });
  }
  return { kind: 'section', source, entries };
}

/**
 * Lays `patch` over `base`: sections are merged key by key, everything else is replaced, and a null in the patch
 * removes the key (as a JSON merge patch, RFC 7396).
 */
export function mergeTrees(base: ConfigNode, patch: ConfigNode): ConfigNode {
  if (patch.kind !== 'section') return patch;
  const entries: SectionNode['entries'] = new Map(base.kind === 'section' ? base.entries : []);
  for (const [key, entry] of patch.entries) {
    const inherited = entries.get(key);
    if (entry.node.kind === 'value' && entry.node.value === null) entries.delete(key);
    else if (inherited === undefined) {
      // Merged onto nothing, so that nulls deeper down are dropped whether or not there was something to remove.
      const nothing: SectionNode = { kind: 'section', source: entry.node.source, entries: new Map() };
      entries.set(key, { keySource: entry.keySource, node: mergeTrees(nothing, entry.node) });
    } else entries.set(key, { keySource: entry.keySource, node: mergeTrees(inherited.node, entry.node) });
  }
  return { kind: 'section', source: patch.source, entries };
}

/** The plain value of a tree. */
export function plainValue(node: ConfigNode): unknown {
  if (node.kind === 'value') return node.value;
  if (node.kind === 'list') return node.items.map(plainValue);
  // fromEntries defines properties, so a key named __proto__ stays an ordinary one and is refused as unknown.
  return Object.fromEntries([...node.entries].map(([key, entry]) => [key, plainValue(entry.node)]));
}

/**
 * Follows `path` as far as the tree goes.
 * @returns where the end of the path was written: the value itself, the key of a section, or, when it was left out,
 *   the section that lacks it; and the node there, if the whole path exists
 */
export function locate(
  root: ConfigNode,
  path: readonly PropertyKey[],
): { source: Source; node?: ConfigNode } {
  let source = root.source;
  let node: ConfigNode = root;
  for (const part of path) {
    if (node.kind === 'section') {
      const entry = node.entries.get(String(part));
      if (entry === undefined) return { source };
      node = entry.node;
      source = node.kind === 'value' ? node.source : entry.keySource;
    } else {
      const item: ConfigNode | undefined = node.kind === 'list' ? node.items[Number(part)] : undefined;
      if (item === undefined) return { source };
      node = item;
      source = item.source;
    }
  }
  return { source, node };
}
