/** The live page in a real browser: a run is started, spikes, goes back and ends, and the page shows it. */

import { join } from 'node:path';
import { type CurvePoint, readCurve } from '@sluice/observe';
import test from 'ava';
import type { Browser, Page } from 'playwright-core';
import { CHROMIUM, openBrowser } from './support/browser.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
let browser: Browser | undefined;
test.after.always(async () => {
  await browser?.close();
  sandbox.dispose();
});

const SETTINGS = [
  ...[
    'training.steps=100',
    'evaluation.everySteps=20',
    'diagnostics.everySteps=10',
    'checkpoint.everySteps=20',
  ],
  ...['spikes.policy=rollback', 'spikes.warmupSteps=16', 'spikes.window=32', 'spikes.snapshotEverySteps=10'],
  ...['spikes.maxSkips=2', 'spikes.rateFactor=0.5', 'observe.tensorboard=true'],
]
  .map((setting) => `--set ${setting}`)
  .join(' ');

const withBrowser = CHROMIUM === undefined ? test.skip : test;
if (CHROMIUM === undefined) console.log('no Chromium was found: the live page is not tried in a browser');

function lookFor(page: Page, selector: string, text: string | RegExp): Promise<void> {
  return page.locator(selector).filter({ hasText: text }).first().waitFor({ timeout: 60_000 });
}

withBrowser('a run that goes on is shown until its end, on a page that asks nobody else', async (t) => {
  t.timeout(180_000);
  const training = sandbox.start(
    `train moe.yaml ${SETTINGS} --threads 1 --run-dir runs/spiking --watch --watch-port 0`,
    { SLUICE_POISON: JSON.stringify({ garbage: { steps: [53, 60] } }) },
  );
  const beside = addressIn(await training.shown('Ctrl-C'));
  const watching = sandbox.start('watch runs --port 0');
  const address = addressIn(await watching.shown('Ctrl-C'));
  t.not(beside, address);
  browser = await openBrowser();
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('request', (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith('data:'))
      problems.push(request.url());
  });

  await page.goto(address);
  await lookFor(page, '.badge', 'running');
  await page.locator('.runs canvas, .plot canvas').first().waitFor();
  await page.getByRole('link', { name: 'spiking' }).click();
  await lookFor(page, 'h1', /spiking.*running/);
  await lookFor(page, '.panel', 'Hosts and workers');
  const { code } = await training.ended;
  t.is(code, 0);

  await lookFor(page, 'h1', /spiking.*finished/);
  await lookFor(page, '.story li', 'Went back to step');
  await lookFor(page, '.story li', 'The run finished.');
  await lookFor(page, '.spikes td', /updates left out, back to step \d+/);
  for (const drawn of [
    '[data-chart="loss"] canvas',
    '[data-chart="group-norms"] canvas',
    '[data-map="map-gate"] canvas',
  ]) {
    t.true(await page.locator(drawn).first().isVisible(), drawn);
  }
  t.true(await page.locator('.sample').isVisible());

  const steps: number[] = [];
  const onPoint = ({ step }: CurvePoint) => steps.push(step);
  await readCurve(join(sandbox.path, 'runs/spiking/tensorboard'), { loss: 'train/loss' }, { onPoint });
  t.deepEqual(
    steps,
    Array.from({ length: 100 }, (_, i) => i + 1),
  );

  await page.keyboard.press('d');
  t.is(await page.evaluate('document.documentElement.dataset.theme'), 'dark');
  await page.keyboard.press('Escape');
  await lookFor(page, 'td', 'spiking');
  t.deepEqual(problems, []);

  watching.child.kill('SIGINT');
  t.is((await watching.ended).code, 0);
  await page.locator('.connection').filter({ hasText: 'no connection' }).waitFor();
});

function addressIn(text: string): string {
  return /http:\/\/localhost:\d+\//.exec(text)![0];
}
