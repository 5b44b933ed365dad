/**
 * `npm run damage -- CHECKPOINT [TIMES [SEED]]`: changes random bytes in a random file of a copy of a checkpoint, 1,000 times, each
 * time restored, and demands that each is found and named: the file, and in a shard the tensor and the block that the bytes lie
 * in, at verification and when the tensor is read.
 */

import { cpSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import {
  MANIFEST_NAME,
  openCheckpoint,
  readManifest,
  storedName,
  verifyCheckpoint,
} from '@sluice/checkpoint';
import { BLOCK_ELEMENTS, randomKey, randomPair } from '@sluice/core';
import { refuse, scriptWords } from './words.js';

const MOST_BYTES = 16;
const BLOCK_BYTES = 4 * BLOCK_ELEMENTS;

const [source, ...numbers] = scriptWords(import.meta.url, { most: 3 }).positionals;
if (source === undefined) refuse('Which checkpoint? For example runs/quickstart/checkpoints/step-00000600.');
const [times = 1000, seed = 1] = numbers.map((word) =>
  /^[1-9]\d*$/.test(word) ? Number(word) : refuse(`'${word}' is no whole number above 0.`),
);
const directory = join(mkdtempSync(join(tmpdir(), 'sluice-damage-')), basename(resolve(source)));
cpSync(source, directory, { recursive: true });
process.on('exit', () => rmSync(join(directory, '..'), { recursive: true, force: true }));

const manifest = await readManifest(directory);
// What saving wrote; a tokenizer beside it has hashes of its own.
const files = readdirSync(directory).filter(
  (name) => name === MANIFEST_NAME || manifest.shards.some(({ file }) => file === name),
);

/** Where a byte of a shard lies; undefined in its header. */
function placeOf(file, position) {
  const { pieces } = manifest.shards.find((shard) => shard.file === file);
  const piece = pieces.findLast(({ offset }) => offset <= position);
  if (piece === undefined) return undefined;
  const block = piece.begin / BLOCK_ELEMENTS + Math.floor((position - piece.offset) / BLOCK_BYTES);
  return { piece, tensor: storedName(piece.kind, piece.tensor), block };
}

/** Whether what was found is what was done. */
function isNamed(problems, file, place) {
  if (file === MANIFEST_NAME) {
    return problems.some(({ kind, message }) => kind === 'manifest-damaged' && message.includes(file));
  }
  return problems.some((problem) =>
    place === undefined
      ? problem.kind === 'header-damaged' && problem.file === file
      : problem.kind === 'block-damaged' &&
        problem.file === file &&
        problem.tensor === place.tensor &&
        problem.block === place.block,
  );
}

/** Whether reading the block refuses it. */
async function isRefused(place) {
  try {
    const reader = await openCheckpoint(directory);
    try {
      if (place === undefined) return false;
      const { kind, tensor, end } = place.piece;
      const begin = place.block * BLOCK_ELEMENTS;
      const values = new Float32Array(Math.min(BLOCK_ELEMENTS, end - begin));
      await reader.readRange(kind, tensor, begin, begin + values.length, values);
      return false;
    } finally {
      await reader.close();
    }
  } catch ({ code }) {
    return code === 'SLUICE_E_CHECKPOINT_DAMAGED';
  }
}

const counts = { manifest: 0, header: 0, block: 0 };
const missed = [];
for (let time = 0; time < times; time++) {
  const key = randomKey(seed, 'damage', time);
  const draw = (index, count) => randomPair(key, index)[0] % count;
  const file = files[draw(0, files.length)];
  const path = join(directory, file);
  const { size } = statSync(path);
  // Most of a shard are blocks: every fourth time it is its beginning, where the header is.
  const position = draw(1, draw(2, 4) === 0 ? Math.min(size, 4096) : size);
  const length = Math.min(1 + draw(3, MOST_BYTES), size - position);
  const handle = openSync(path, 'r+');
  const before = Buffer.alloc(length);
  readSync(handle, before, 0, length, position);
  const after = Buffer.from(before.map((byte, i) => byte ^ (1 + draw(4 + i, 255))));
  writeSync(handle, after, 0, length, position);
  const place = file === MANIFEST_NAME ? undefined : placeOf(file, position);
  const { problems } = await verifyCheckpoint(directory);
  const isKnown = isNamed(problems, file, place) && (await isRefused(place));
  writeSync(handle, before, 0, length, position);
  if (!isKnown) missed.push({ file, position, length, problems });
  counts[file === MANIFEST_NAME ? 'manifest' : place === undefined ? 'header' : 'block']++;
  if (process.stderr.isTTY) process.stderr.write(`\r${time + 1} of ${times}`);
}
const { valid } = await verifyCheckpoint(directory);
process.stdout.write(
  `${times} times damaged: ${counts.manifest} in the manifest, ${counts.header} in headers, ${counts.block} in blocks; ` +
    `${missed.length} not found or not named; restored it is ${valid ? 'valid' : 'NOT valid'}\n`,
);
for (const { file, position, length, problems } of missed) {
  const found = problems.map(({ message }) => message).join('; ') || 'nothing';
  process.stdout.write(`missed: ${file}, ${length} bytes at ${position}: ${found}\n`);
}
process.exit(missed.length === 0 && valid ? 0 : 1);
