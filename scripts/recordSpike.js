/**
 * Records how the live page shows a spike that is handled: docs/images/watch-spike.png, an animated PNG. A small model is trained on the
 * documentation; some of its batches are made garbage, it spikes, goes back, leaves these samples out and goes on.
 *
 *     node scripts/recordSpike.js    (with a Chromium; SLUICE_CHROMIUM names another one than the system's)
 */

import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { chromium } from 'playwright-core';
import { root } from './steps.js';
import { scriptWords } from './words.js';

scriptWords(import.meta.url);

const OUT = join(root, 'docs/images/watch-spike.png');
const SIZE = { width: 1060, height: 760 };
/** How often the page is looked at, and how long each picture is shown, ms. */
const LOOK_MS = 900;
const SHOWN_MS = 700;
const LAST_SHOWN_MS = 4000;
const MOST_FRAMES = 16;

/** In the page: scrolls to the plot of the loss, and what is below it. */
const SHOW_LOSS = `scrollTo(0, document.querySelector('.panel:has([data-chart="loss"])').getBoundingClientRect().top + scrollY - 62)`;

const RECIPE = `name: docs
sources:
  - { kind: text, path: ${JSON.stringify(join(root, 'docs'))} }
tokenizer: { kind: train, vocabularySize: 512 }
validation: { fraction: 0.05 }
`;

const CONFIG = `name: spiking
seed: 7
model:
  { vocabularySize: 512, hiddenSize: 64, numLayers: 2, numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 16, intermediateSize: 128 }
data: { recipe: recipe.yaml, sequenceLength: 64 }
batch: { sequences: 16, grainSequences: 2 }
training: { steps: 160 }
optimizer: { learningRate: 4.0e-3 }
schedule: { warmupSteps: 10 }
evaluation: { everySteps: 40, sequences: 16 }
checkpoint: { everySteps: 80 }
observe: { samples: { everySteps: 40, prompts: ["A run"] } }
spikes: { policy: rollback, warmupSteps: 50, window: 48, snapshotEverySteps: 20, maxSkips: 2, rateFactor: 0.5 }
`;

const folder = await mkdtemp(join(tmpdir(), 'sluice-spike-'));
await writeFile(join(folder, 'recipe.yaml'), RECIPE);
await writeFile(join(folder, 'train.yaml'), CONFIG);
await mkdir(join(folder, 'runs'));
const training = sluice('train train.yaml --threads 1');
// Not beside the training, since the page is to show its end.
const watching = sluice('watch runs --port 0');
const ended = Promise.all(
  [training, watching].map((child) => new Promise((resolve) => child.on('close', resolve))),
);
let browser;
try {
  const address = await addressOf(watching.stderr);
  // As root, and in containers, there is no sandbox to be had.
  browser = await chromium.launch({
    executablePath: process.env.SLUICE_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
  const page = await browser.newPage({ viewport: SIZE });
  // On a machine that much else uses, too.
  page.setDefaultTimeout(300_000);
  await page.goto(address);
  await page.getByRole('link', { name: 'spiking' }).click();
  await page.locator('[data-chart="loss"] canvas').waitFor();
  const frames = await record(page);
  await writeFile(OUT, animated(frames));
  process.stdout.write(`${OUT}: ${frames.length} pictures\n`);
} finally {
  await browser?.close();
  training.kill('SIGINT');
  watching.kill('SIGINT');
  await ended;
  await rm(folder, { recursive: true, force: true });
}

function sluice(words) {
  const child = spawn(process.execPath, [join(root, 'launcher/bin/sluice.js'), ...words.split(' ')], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      ...process.env,
      SLUICE_DATA: folder,
      SLUICE_POISON: JSON.stringify({ garbage: { steps: [81, 83] } }),
    },
  });
  child.stderr.resume();
  return child;
}

async function addressOf(stream) {
  let said = '';
  for await (const chunk of stream) {
    said += chunk;
    const [address] = /http:\/\/localhost:\d+\//.exec(said) ?? [];
    if (address) {
      stream.resume();
      return address;
    }
  }
  throw new Error(`the page was not started:\n${said}`);
}

/** Pictures until the run has finished; from the spike on all, before it every third. */
async function record(page) {
  const frames = [];
  for (let looks = 0; ; looks++) {
    const heading = await page.locator('h1').first().textContent();
    const hasSpiked = (await page.locator('.spikes').count()) > 0;
    const isOver = !/running/.test(heading);
    await page.evaluate(SHOW_LOSS);
    // Its end brings the report and the last sample.
    if (isOver) await delay(3000);
    if (hasSpiked || isOver || looks % 3 === 0) frames.push(await page.screenshot());
    if (isOver) return thinned(frames);
    await delay(LOOK_MS);
  }
}

function thinned(frames) {
  const different = frames.filter((frame, i) => i === 0 || !frame.equals(frames[i - 1]));
  const stride = Math.ceil(different.length / MOST_FRAMES);
  return different.filter((_, i) => i % stride === 0 || i === different.length - 1);
}

/** PNGs of one size as an animated one (w3.org/TR/png-3, 11.3.6): each is a frame, whole. */
function animated(pictures) {
  const count = Buffer.alloc(8);
  count.writeUInt32BE(pictures.length);
  let sequence = 0;
  const parts = [];
  for (const [i, picture] of pictures.entries()) {
    const chunks = chunksOf(picture);
    if (i === 0)
      parts.push(
        ...chunks.filter(({ type }) => type === 'IHDR').map(chunkOf),
        chunkOf({ type: 'acTL', data: count }),
      );
    const control = Buffer.alloc(26);
    control.writeUInt32BE(sequence++, 0);
    control.writeUInt32BE(SIZE.width, 4);
    control.writeUInt32BE(SIZE.height, 8);
    control.writeUInt16BE(i === pictures.length - 1 ? LAST_SHOWN_MS : SHOWN_MS, 20);
    control.writeUInt16BE(1000, 22);
    parts.push(chunkOf({ type: 'fcTL', data: control }));
    for (const { type, data } of chunks) {
      if (type !== 'IDAT') continue;
      const number = Buffer.alloc(4);
      if (i > 0) number.writeUInt32BE(sequence++);
      parts.push(chunkOf(i === 0 ? { type, data } : { type: 'fdAT', data: Buffer.concat([number, data]) }));
    }
  }
  return Buffer.concat([
    pictures[0].subarray(0, 8),
    ...parts,
    chunkOf({ type: 'IEND', data: Buffer.alloc(0) }),
  ]);
}

function chunksOf(picture) {
  const chunks = [];
  for (let at = 8; at < picture.length; ) {
    const length = picture.readUInt32BE(at);
    chunks.push({
      type: picture.toString('latin1', at + 4, at + 8),
      data: picture.subarray(at + 8, at + 8 + length),
    });
    at += 12 + length;
  }
  return chunks;
}

function chunkOf({ type, data }) {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length);
  head.write(type, 4, 'latin1');
  const tail = Buffer.alloc(4);
  tail.writeUInt32BE(crc32(Buffer.concat([head.subarray(4), data])) >>> 0);
  return Buffer.concat([head, data, tail]);
}
