/**
 * What was read of each source and what was not, for people. It lies beside the manifest, and is no part of the corpus: a
 * note that somebody puts beside the texts makes no other corpus.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DatasetManifest, SOURCE_REPORT_FILE } from './manifest.ts';
import type { PassedOver, TextSourceReader } from './sources/source.ts';

type ManifestSource = DatasetManifest['sources'][number];

export interface SourceReport extends Omit<ManifestSource, 'files' | 'sha256'> {
  /** The files that were read, in order, by their paths below the source's. */
  readonly files: readonly string[];
  readonly passedOver: readonly PassedOver[];
}

export function reportSources(
  sources: readonly TextSourceReader[],
  { sources: counted }: DatasetManifest,
): SourceReport[] {
  return sources.map(({ files, passedOver }, i) => {
    const { sha256: _, ...counts } = counted[i]!;
    return { ...counts, files: files.map(({ name }) => name), passedOver };
  });
}

export function writeSourceReport(directory: string, report: readonly SourceReport[]): void {
  writeFileSync(join(directory, SOURCE_REPORT_FILE), `${JSON.stringify({ sources: report }, null, 2)}\n`);
}

/** The report of a prepared corpus: what its text was when it was prepared. Empty where somebody has removed it. */
export function readSourceReport(directory: string): SourceReport[] {
  try {
    return JSON.parse(readFileSync(join(directory, SOURCE_REPORT_FILE), 'utf8')).sources;
  } catch {
    return [];
  }
}
