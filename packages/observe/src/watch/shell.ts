/** The live page without its content, and its style and scripts: read from the package once, compressed once. */

import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { loadPlotLibrary, loadScripts, loadStyles, pageScripts, RUN_SCRIPTS } from '../report/assets.ts';

export interface Asset {
  readonly type: string;
  readonly plain: Buffer;
  readonly compressed: Buffer;
}

const LIVE_SCRIPTS = ['elements', 'place', 'compareChart', 'overview', 'liveRun', 'live'];

const SHELL = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="assets/watch.css">
<script src="assets/uplot.js" defer></script>
<script src="assets/watch.js" type="module"></script>
</head>
<body>
<nav id="bar"></nav>
<header id="head"></header>
<main id="main"><p class="wide">Reading the runs…</p><noscript><p class="wide">The page needs JavaScript; nothing is loaded from elsewhere.</p></noscript></main>
<footer id="foot"></footer>
</body>
</html>
`;

/** By their paths. */
export async function loadShell(): Promise<ReadonlyMap<string, Asset>> {
  const scripts = LIVE_SCRIPTS.map((name) => new URL(`./page/${name}.js`, import.meta.url));
  const [library, styles, script] = await Promise.all([
    loadPlotLibrary(),
    loadStyles(['report', 'watch']),
    loadScripts([...pageScripts(...RUN_SCRIPTS), ...scripts]),
  ]);
  const assets = [
    ['/', 'text/html; charset=utf-8', SHELL],
    ['/assets/watch.css', 'text/css; charset=utf-8', [library.style, ...styles].join('\n')],
    ['/assets/uplot.js', 'text/javascript; charset=utf-8', library.script],
    ['/assets/watch.js', 'text/javascript; charset=utf-8', script],
  ] as const;
  const packed = assets.map(async ([path, type, text]) => {
    const plain = Buffer.from(text);
    return [path, { type, plain, compressed: await promisify(gzip)(plain) }] as const;
  });
  return new Map(await Promise.all(packed));
}
