import type { LoadedRecipe, SourceConfig } from '../recipe.ts';
import { bigramBackcopySource } from './bigramBackcopy.ts';
import { brsSource } from './brs.ts';
import { debianPackageFolder, unpackDebianPackage } from './debian.ts';
import { listFiles } from './files.ts';
import { jsonlSource } from './jsonl.ts';
import { needlesSource } from './needles.ts';
import type { TextSourceReader } from './source.ts';
import { textSource } from './text.ts';
import { wordnetSource } from './wordnet.ts';

export interface OpenSourceOptions {
  /** Where downloaded packages are kept. */
  readonly downloadRoot: string;
  readonly signal?: AbortSignal | undefined;
  /** False: a package that is not there is missing, not fetched. */
  readonly download?: boolean;
}

/** Opens all sources of a recipe. @throws as `openSource` */
export async function openSources(
  recipe: LoadedRecipe,
  options: OpenSourceOptions,
): Promise<TextSourceReader[]> {
  const readers: TextSourceReader[] = [];
  for (const source of recipe.recipe.sources) readers.push(await openSource(source, recipe, options));
  return readers;
}

/** Finds the files of one source of a recipe, downloading what it needs, and makes a reader of its documents. */
export async function openSource(
  source: SourceConfig,
  recipe: LoadedRecipe,
  { downloadRoot, signal, download = true }: OpenSourceOptions,
): Promise<TextSourceReader> {
  if (source.kind === 'wordnet') return wordnetSource();
  if (source.kind === 'bigram-backcopy') return bigramBackcopySource(source);
  if (source.kind === 'needles') return needlesSource(source);
  if (source.kind === 'debian') {
    const folder = download
      ? await unpackDebianPackage(source.package, downloadRoot, signal)
      : debianPackageFolder(source.package, downloadRoot);
    const listing = listFiles(folder, source);
    const label = `debian:${source.package}`;
    return source.format === 'brs' ? brsSource(label, listing) : textSource(label, listing, source);
  }
  const listing = listFiles(recipe.resolve(source.path), source);
  if (source.kind === 'text') return textSource(source.path, listing, source);
  if (source.kind === 'jsonl') return jsonlSource(source.path, listing, source.field, source);
  const { parquetSource } = await import('./parquet.ts');
  return parquetSource(source.path, listing, source.column, source);
}
