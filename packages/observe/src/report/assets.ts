/** Styles and scripts of the pages, read from where the package lies and put into one text each. */

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Styles and scripts that go into a page. */
export interface PageAssets {
  readonly styles: readonly string[];
  /** uPlot, as a plain script. */
  readonly plotLibrary: string;
  /** A module. */
  readonly script: string;
}

const ASSETS = new URL('../../assets/', import.meta.url);

/** @param names of files in `assets/`, without their ending, in the order in which they hold */
export function loadStyles(names: readonly string[]): Promise<string[]> {
  return Promise.all(names.map((name) => readFile(new URL(`${name}.css`, ASSETS), 'utf8')));
}

/**
 * Scripts that import each other as one that imports nothing: one after another, what a file uses before it.
 * @param files compiled, each name in them once
 */
export async function loadScripts(files: readonly URL[]): Promise<string> {
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
  return texts
    .map((text) =>
      text
        .replaceAll(/^import [^;]*;$/gm, '')
        .replaceAll(/^export \{\};?$/gm, '')
        .replaceAll(/^export /gm, '')
        .replaceAll(/^\/\/# sourceMappingURL=.*$/gm, ''),
    )
    .join('\n');
}

/** Scripts of `report/page`, what they share first. */
export function pageScripts(...names: readonly string[]): URL[] {
  return names.map((name) => new URL(`./page/${name}.js`, import.meta.url));
}

/** What draws a run, in a report and in a live page; what a file uses before it. */
export const RUN_SCRIPTS = ['theme', 'charts', 'marks', 'heatMap', 'expertLoad', 'layerMaps', 'runView'];

/** Browsers of a system without a language name one that is none (`en-US@posix`), with which uPlot would not begin. */
const SOUND_LANGUAGE = `try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en-US' });
}
`;

/** uPlot's own style and script. */
export async function loadPlotLibrary(): Promise<{ readonly style: string; readonly script: string }> {
  const directory = dirname(createRequire(import.meta.url).resolve('uplot'));
  const [style, script] = await Promise.all([
    readFile(join(directory, 'uPlot.min.css'), 'utf8'),
    readFile(join(directory, 'uPlot.iife.min.js'), 'utf8'),
  ]);
  return { style, script: SOUND_LANGUAGE + script };
}

/** What a page with charts by uPlot holds. */
export async function loadChartAssets(
  styles: readonly string[],
  scripts: readonly URL[],
): Promise<PageAssets> {
  const [library, own, script] = await Promise.all([
    loadPlotLibrary(),
    loadStyles(styles),
    loadScripts(scripts),
  ]);
  return { styles: [library.style, ...own], plotLibrary: library.script, script };
}
