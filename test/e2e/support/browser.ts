/** The system's Chromium, where there is one. */

import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Path of a browser; SLUICE_CHROMIUM names another one. */
export const CHROMIUM = [process.env.SLUICE_CHROMIUM ?? '', ...PLACES].find(
  (path) => path !== '' && existsSync(path),
);

export function openBrowser(): Promise<Browser> {
  // As root, and in containers, there is no sandbox to be had.
  return chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}
