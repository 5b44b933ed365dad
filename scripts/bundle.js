/**
 * Puts the compiled command line, its workers and their threads into few files, `launcher/bundle/`. Of a start, most is loading
 * modules: hundreds of small ones, and TensorFlow.js whole. A bundle has what is used, in a quarter of the time.
 */

import { createHash } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS, ownPlaces, THREADS, tensorsOnly, withoutUnused } from './bundling.js';
import { root } from './steps.js';

const OUT = join(root, 'launcher/bundle');
const LICENSES = 'LICENSES.txt';
/** What was built. */
const BUILD = 'build.json';

/**
 * Programs and threads that are started by their file, each under its own name. Those of one group share modules, and load all of a
 * module that one of them uses; workers and threads, of which there are many, are apart from the commands.
 */
const GROUPS = [
  [
    'launcher/dist/main.js',
    'launcher/dist/gpuKit.js',
    'launcher/dist/backends/gpuEntry.js',
    'launcher/dist/backends/probeEntry.js',
  ].map((file) => join(root, file)),
  [join(root, 'launcher/dist/worker.js')],
  THREADS,
];
const STARTED = new Map(GROUPS.flat().map((file) => [file, basename(file)]));

/** Native addons, and packages whose files are read: found where npm puts them, as what an installed Sluice depends on. */
const EXTERNAL = Object.keys(JSON.parse(await readFile(join(root, 'package.json'), 'utf8')).dependencies);

const results = await Promise.all(
  GROUPS.map((entryPoints) =>
    build({
      ...BUNDLE_OPTIONS,
      entryPoints,
      outdir: OUT,
      entryNames: '[name]',
      external: EXTERNAL,
      plugins: [ownPlaces({ out: OUT, programs: STARTED }), tensorsOnly, withoutUnused],
    }),
  ),
);
const inputs = results.flatMap(({ metafile }) => Object.keys(metafile.inputs));
const outputs = results.flatMap(({ metafile }) => Object.keys(metafile.outputs));

/** The licences of the libraries in the bundle, which ask to be handed on with it. */
async function licenses(inputs) {
  const folders = inputs.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []);
  const texts = [...new Set(folders)].sort().map(async (folder) => {
    const { name, version, license } = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
    const file = (await readdir(join(root, folder))).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file ? await readFile(join(root, folder, file), 'utf8') : '';
    return `${name} ${version} (${license})\n\n${text.trim()}\n`;
  });
  return (await Promise.all(texts)).join(`\n${'-'.repeat(80)}\n\n`);
}

await writeFile(join(OUT, LICENSES), await licenses(inputs));

const files = [...new Set(outputs.map((file) => basename(file)))];

// By this hash, hosts of one run know that they run the same program.
const hash = createHash('sha256');
for (const name of files.filter((file) => file.endsWith('.js')).sort()) {
  hash.update(`${name}\n`).update(await readFile(join(OUT, name)));
}

// Chunks are named by their content. Those of the build before serve programs that still run.
const before = await readFile(join(OUT, BUILD), 'utf8').then(JSON.parse, () => ({}));
await writeFile(join(OUT, BUILD), `${JSON.stringify({ content: hash.digest('hex'), files })}\n`);
const written = new Set([BUILD, LICENSES, ...files]);
const kept = new Set([...written, ...(before.files ?? [])]);
for (const name of await readdir(OUT)) if (!kept.has(name)) await rm(join(OUT, name));

// A package has no use for them, nor for maps.
const outdated = [...kept].filter((name) => !written.has(name));
await writeFile(join(OUT, '.npmignore'), ['*.map', ...outdated, ''].join('\n'));
