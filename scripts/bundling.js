/** What the bundle of the command line and that of the tests have in common. */

import { readFile } from 'node:fs/promises';
import { dirname, extname, join, relative, sep } from 'node:path';
import { root } from './steps.js';

/** What processes start as threads, by its file. */
export const THREADS = [
  'packages/checkpoint/dist/shardThread.js',
  'packages/checkpoint/dist/verifyThread.js',
  'packages/collectives/dist/communicationThread.js',
  'packages/data/dist/tokenizer/encodeThread.js',
].map((file) => join(root, file));

const OWN_PLACE = /new URL\(\s*'([^']+)',\s*import\.meta\.url,?\s*\)|(?<!')import\.meta\.url\b/g;

/**
 * `import.meta.url` stays the file's that wrote it, and a program that it starts is the bundled one.
 * @param out the bundle's folder, in which programs lie side by side
 * @param programs the files that are started, not imported, with their names in the bundle
 */
export function ownPlaces({ out, programs }) {
  /** Where a file lies, as the bundle sees it. */
  const fromBundle = (file, ending = '') => JSON.stringify(relative(out, file) + ending);

  return {
    name: 'own places',
    setup({ onLoad }) {
      onLoad({ filter: /\.[jt]s$/ }, async ({ path }) => {
        if (relative(root, path).split(sep).includes('node_modules')) return undefined;
        const text = await readFile(path, 'utf8');
        if (/import\.meta\.(dirname|filename)\b/.test(text)) {
          return {
            errors: [
              { text: `import.meta.dirname is the bundle's: let ${path} use new URL('…', import.meta.url)` },
            ],
          };
        }
        const contents = text.replaceAll(OWN_PLACE, (_, reference) => {
          if (reference === undefined) return `new URL(${fromBundle(path)}, import.meta.url).href`;
          const file = join(dirname(path), reference);
          // A directory's URL keeps its slash, without which what lies in it would be looked for beside it.
          const ending = /(^|[/])[.]{0,2}$/.test(reference) ? '/' : '';
          // Sources that are not compiled name a program as it is called once it is.
          const program = programs.get(file) ?? programs.get(file.replace(/\.js$/, '.ts'));
          return `new URL(${fromBundle(program ? join(out, program) : file, ending)}, import.meta.url)`;
        });
        return { contents, loader: extname(path).slice(1) };
      });
    },
  };
}

/** Of `@tensorflow/tfjs`, which is a union of many packages, the one that is used, with its gradients and chained operations. */
export const tensorsOnly = {
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

/** Of libraries, parts that are loaded though nothing uses them: they would be a fifth of what each process compiles. */
export const withoutUnused = {
  name: 'without unused parts',
  setup({ onResolve, onLoad }) {
    const replaced = { namespace: 'replaced' };
    // TensorFlow.js fetches models by it, where there is no `fetch`.
    onResolve({ filter: /^node-fetch$/ }, () => ({ ...replaced, path: 'node-fetch' }));
    onLoad({ filter: /^node-fetch$/, namespace: 'replaced' }, () => ({
      contents: 'export default globalThis.fetch;',
    }));
    // zod has its messages in fifty languages.
    onResolve({ filter: /locales\/index\.js$/ }, ({ importer }) =>
      /node_modules.zod.v4/.test(importer) ? { ...replaced, path: 'zod-locales' } : undefined,
    );
    onLoad({ filter: /^zod-locales$/, namespace: 'replaced' }, () => ({
      contents: "export { default as en } from 'zod/v4/locales/en.js';",
      resolveDir: root,
    }));
  },
};

/**
 * Modules for Node, which share what they import.
 * @type {import('esbuild').BuildOptions & { metafile: true }}
 */
export const BUNDLE_OPTIONS = {
  absWorkingDir: root,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  mainFields: ['module', 'main'],
  // Libraries in CommonJS ask for Node's own modules by `require`.
  banner: {
    js: "import { createRequire as requireOfBundle } from 'node:module'; const require = requireOfBundle(import.meta.url);",
  },
  sourcemap: true,
  sourcesContent: false,
  metafile: true,
  logLevel: 'warning',
};
