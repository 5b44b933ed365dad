/** A run's page, frozen into one file: what can be read without a script, and the data of the plots. */

import type { PageAssets } from './assets.ts';
import { escapeJson, htmlDocument } from './elements.ts';
import type { ReportFacts } from './facts.ts';
import { type CollectedRun, headerOf, sectionsOf } from './sections.ts';

/** The whole report as one HTML document that refers to nothing outside itself. */
export function renderPage(facts: ReportFacts, run: CollectedRun, assets: PageAssets): string {
  const { data, diagnostics } = run;
  const { layerMaps, gateHistograms } = diagnostics;
  const drawn = { ...data, charts: [...data.charts, ...diagnostics.charts], layerMaps, gateHistograms };
  return htmlDocument(
    `${facts.title ?? 'Training run'} · Sluice`,
    assets.styles,
    `<header>
${headerOf(facts, run)}
</header>
<main>
<noscript><p class="wide">The plots need JavaScript; nothing is loaded from elsewhere.</p></noscript>
${sectionsOf(facts, run)
  .map(({ html }) => html)
  .join('\n')}
</main>
<script type="application/json" id="report-data">${escapeJson(drawn)}</script>
<script>${assets.plotLibrary}</script>
<script type="module">${assets.script}</script>`,
  );
}
