/** The page of a diagnosis: the paper's figures, of one model or of several beside each other. */

import type { Computation } from '@sluice/engine';
import type { AttentionMap, Diagnosis } from '@sluice/evaluate';
import type { Diagnostics, LayerDiagnostics } from '@sluice/train';
import { histogramPlot, shadedHistograms } from '../figures/histograms.ts';
import { linePlot, type PlotLine } from '../figures/linePlot.ts';
import { COLORS, isDrawable } from '../figures/svg.ts';
import { evenAttention, formatShort, layerTable, meanOfGates } from '../report/diagnostics.ts';
import {
  escapeHtml,
  escapeJson,
  htmlDocument,
  legend,
  panel,
  paragraph,
  swatch,
  table,
} from '../report/elements.ts';
import type { MapData } from './data.ts';

export interface DiagnosedModel {
  /** What tells it from the others. */
  readonly name: string;
  readonly diagnosis: Diagnosis;
  /** What computed it, where that is known. */
  readonly computedBy?: Computation;
}

export interface DiagnosisAssets {
  readonly styles: readonly string[];
  readonly script: string;
}

/** One HTML document that refers to nothing outside itself. */
export function renderDiagnosis(models: readonly DiagnosedModel[], assets: DiagnosisAssets): string {
  const title = models.length === 1 ? models[0]!.name : `${models.length} models`;
  const maps = models.map(({ diagnosis }, model) =>
    diagnosis.maps.map((map, i) => mapData(map, `map-${model}-${i}`)),
  );
  return htmlDocument(
    `${title} · diagnosis · Sluice`,
    assets.styles,
    `<header>
<h1>${escapeHtml(title)}</h1>
<p class="subtitle">Attention sinks, massive activations and gates, on ${escapeHtml(batchText(models))}</p>
${models.length === 1 ? '' : legend(models.map(({ name }) => name))}
</header>
<main>
${overallPanel(models)}
${layerPlots(models).join('\n')}
${gatePanels(models).join('\n')}
${mapPanels(models, maps).join('\n')}
${models.map(layersPanel).join('\n')}
</main>
<script type="application/json" id="diagnosis-data">${escapeJson(maps.flat())}</script>
<script type="module">${assets.script}</script>`,
  );
}

function batchText(models: readonly DiagnosedModel[]): string {
  const texts = models.map(
    ({ diagnosis: { sequences, sequenceLength } }) =>
      `${sequences} sequence${sequences === 1 ? '' : 's'} of ${sequenceLength} tokens`,
  );
  return [...new Set(texts)].join(', ');
}

type Row = readonly [label: string, value: (diagnostics: Diagnostics) => number | null | undefined];

const OVERALL: readonly Row[] = [
  ['Attention to the first token, without query 0 (F-Attn)', (d) => d.firstTokenAttention],
  ['… with query 0', (d) => d.firstTokenAttentionWithFirst],
  ['Massive activation: max |h|, mean of layers (M-Act)', (d) => d.massiveActivation],
  ['… largest of all layers', (d) => d.largestActivation],
  ['Largest feed-forward output, mean of layers', (d) => d.feedForwardActivation],
  ['Gate score, mean', (d) => d.gateScoreMean],
  ['… share below 0.1', (d) => meanOfGates(d.gates, 'belowTenth')],
  ['… share below 0.05', (d) => meanOfGates(d.gates, 'belowTwentieth')],
  ['… largest ‖W‖ of a head', (d) => meanOfGates(d.gates, 'largestWeightNorm')],
  ['… share above 0.9', (d) => meanOfGates(d.gates, 'aboveNineTenths')],
  ['Attention output |Y| before the gate, mean', (d) => d.attentionOutput?.before.meanAbsolute],
  ['… share below 1e-2', (d) => d.attentionOutput?.before.belowHundredth],
  ['… share below 1e-3', (d) => d.attentionOutput?.before.belowThousandth],
  [
    '… share below 1e-2 if multiplied by the mean score only',
    (d) => d.attentionOutput?.withMeanScore?.belowHundredth,
  ],
  [
    '… share below 1e-3 if multiplied by the mean score only',
    (d) => d.attentionOutput?.withMeanScore?.belowThousandth,
  ],
  ['Attention output |Y′| after the gate, mean', (d) => d.attentionOutput?.after.meanAbsolute],
  ['… share below 1e-2', (d) => d.attentionOutput?.after.belowHundredth],
  ['… share below 1e-3', (d) => d.attentionOutput?.after.belowThousandth],
  ['Largest attention logit', (d) => d.largestAttentionLogit],
  ['Attention entropy, nats', (d) => d.attentionEntropy],
  ['Share of their state that delta rules keep from token to token', (d) => d.recurrence?.keptMean],
  ['… share of tokens and heads that keep less than a tenth', (d) => d.recurrence?.keptBelowTenth],
  ['… that keep more than 99 %', (d) => d.recurrence?.keptAboveNinetyNine],
  ['… β', (d) => d.recurrence?.betaMean],
  ['Size of the last update relative to the weights', (d) => d.updateRatio],
  ['Expert imbalance: max load ÷ mean − 1', (d) => d.router?.maxViolation],
  ['Dead experts', (d) => d.router?.deadExperts],
  ['Router entropy, nats', (d) => d.router?.entropy],
  ['Router z: mean (ln Σ e^logit)²', (d) => d.router?.z],
  ['Balance bias of experts: largest − smallest', (d) => d.router?.biasRange],
];

function overallPanel(models: readonly DiagnosedModel[]): string {
  const rows = OVERALL.map(
    ([label, value]) => [label, ...models.map(({ diagnosis }) => value(diagnosis))] as const,
  )
    .filter(([, ...values]) => values.some((value) => value != null))
    .map(([label, ...values]) => [
      label,
      ...values.map((value) => (value == null ? '' : formatShort(value))),
    ]);
  if (models.some(({ computedBy }) => computedBy))
    rows.push([
      'Computed by',
      ...models.map(({ computedBy }) => (computedBy ? computationText(computedBy) : '')),
    ]);
  const headings = [['', ''] as const, ...models.map(({ name }) => [name, 'number'] as const)];
  const hints = models.flatMap(({ name, diagnosis: { noUpdateRatio } }) =>
    noUpdateRatio === undefined
      ? []
      : paragraph('hint', `No size of an update of ${name}: ${noUpdateRatio}.`),
  );
  return panel('Overall', '', [table(headings, rows), ...hints].join('\n'), 'panel wide');
}

function computationText({ backend, precision, arithmetic }: Computation): string {
  return `${backend} in ${precision} (${arithmetic})`;
}

type LayerValue = (layer: LayerDiagnostics) => number | null | undefined;

interface LayerPlot {
  readonly title: string;
  readonly unit: string;
  readonly logarithmic?: boolean;
  readonly value: LayerValue;
  /** Another number of each model, dashed. */
  readonly compared?: { readonly label: string; readonly value: LayerValue };
  /** Dashed lines that are the same for all models. */
  readonly references?: (models: readonly DiagnosedModel[]) => PlotLine[];
}

const LAYER_PLOTS: readonly LayerPlot[] = [
  {
    title: 'Attention to the first token',
    unit: 'F-Attn by layer, without query 0; dashed: if spread evenly',
    value: (layer) => layer.firstTokenAttention,
    references: evenLines,
  },
  {
    title: 'Massive activations',
    unit: 'largest |h| after each layer',
    logarithmic: true,
    value: (layer) => layer.massiveActivation,
  },
  {
    title: 'Feed-forward outputs',
    unit: 'largest magnitude, as it joins the residual stream',
    logarithmic: true,
    value: (layer) => layer.feedForwardActivation,
  },
  { title: 'Gate scores', unit: 'mean by layer', value: (layer) => layer.gateScoreMean },
  {
    title: 'Attention outputs near zero',
    unit: 'share of |Y′| below 1e-2, after the gate; dashed: if multiplied by the mean score only',
    value: (layer) => layer.attentionOutput?.after.belowHundredth,
    compared: {
      label: 'mean score only',
      value: (layer) => layer.attentionOutput?.withMeanScore?.belowHundredth,
    },
  },
  {
    title: 'Size of attention outputs',
    unit: 'mean |Y′|, after the gate; dashed: mean |Y|, before it',
    logarithmic: true,
    value: (layer) => layer.attentionOutput?.after.meanAbsolute,
    compared: { label: 'before the gate', value: (layer) => layer.attentionOutput?.before.meanAbsolute },
  },
  { title: 'Largest attention logit', unit: 'by layer', value: (layer) => layer.largestAttentionLogit },
  { title: 'Attention entropy', unit: 'nats, by layer', value: (layer) => layer.attentionEntropy },
  {
    title: 'Memory of delta rules',
    unit: 'share of its state that a token leaves, mean by layer',
    value: (layer) => layer.recurrence?.keptMean,
  },
  {
    title: 'Size of the last update',
    unit: 'norm of the change ÷ norm of the weights before, by layer',
    logarithmic: true,
    value: (layer) => layer.updateRatio,
  },
  {
    title: 'Expert imbalance',
    unit: 'max load ÷ mean load − 1, by layer',
    value: (layer) => layer.router?.maxViolation,
  },
];

/** What attention to the first token is where it is spread evenly, for each length of sequences. */
function evenLines(models: readonly DiagnosedModel[]): PlotLine[] {
  const layers = Math.max(...models.map(({ diagnosis }) => diagnosis.layers.length));
  const lengths = new Set(models.map(({ diagnosis }) => diagnosis.sequenceLength));
  return [...lengths].map((length) => ({
    label: `spread evenly over ${length} tokens`,
    color: 'reference',
    dashed: true,
    values: Array<number>(layers).fill(evenAttention(length)),
  }));
}

function layerPlots(models: readonly DiagnosedModel[]): string[] {
  return LAYER_PLOTS.flatMap(({ title, unit, logarithmic = false, value, compared, references }) => {
    const linesOf = (of: LayerValue, suffix: string, dashed: boolean) =>
      models.map(
        ({ name, diagnosis }, i): PlotLine => ({
          label: `${name}${suffix}`,
          color: i % COLORS,
          dashed,
          values: diagnosis.layers.map((layer) => of(layer) ?? Number.NaN),
        }),
      );
    const lines = linesOf(value, '', false);
    if (!lines.some(({ values }) => values.some((number) => isDrawable(number, logarithmic)))) return [];
    const dashed = compared ? linesOf(compared.value, `, ${compared.label}`, true) : [];
    const all = [...(references?.(models) ?? []), ...dashed, ...lines];
    return [panel(title, unit, linePlot({ lines: all, axis: 'layer', logarithmic }))];
  });
}

function gatePanels(models: readonly DiagnosedModel[]): string[] {
  return models.flatMap(({ name, diagnosis: { gates, layers } }, model) =>
    gates.map((gate, i) => {
      const color = model % COLORS;
      const rows = layers.flatMap((layer) => (layer.gates[i] ? [layer.gates[i].histogram] : []));
      const facts = `mean ${formatShort(gate.mean)}, ${(100 * gate.belowTenth).toFixed(1)} % below 0.1, ${(100 * gate.aboveNineTenths).toFixed(1)} % above 0.9`;
      const which = gates.length === 1 ? '' : ` · ${gate.name}`;
      return panel(
        `Scores of the gate: ${name}${which}`,
        facts,
        `${histogramPlot(gate.histogram, color)}${shadedHistograms(rows, color, 'layer')}`,
      );
    }),
  );
}

function mapPanels(models: readonly DiagnosedModel[], data: readonly (readonly MapData[])[]): string[] {
  const shown = models.flatMap(({ name, diagnosis: { maps } }, model) =>
    maps.length === 0 ? [] : [{ name, maps, model }],
  );
  if (shown.length === 0) return [];
  const hint =
    '<p class="hint">Each row is a query, each column a token that it sees; the strip at the left is the first token alone. Shades are square roots of weights. <span class="heat-readout" id="map-readout"></span></p>';
  const rows = shown.map(({ name, maps, model }) => {
    const figures = maps.map(
      (map, i) =>
        `<figure><canvas id="${data[model]![i]!.id}" title="${escapeHtml(mapTitle(map))}"></canvas><figcaption>${mapTitle(map)}</figcaption></figure>`,
    );
    const heading = `<h3>${models.length > 1 ? swatch(model) : ''}${escapeHtml(name)}</h3>`;
    return `${heading}<div class="maps">${figures.join('')}</div>`;
  });
  return [panel('Attention maps', 'of the first sequence', rows.join('\n') + hint, 'panel wide')];
}

function mapTitle({ layer, head }: AttentionMap): string {
  return `layer ${layer}, ${head === null ? 'mean of heads' : `head ${head}`}`;
}

function mapData({ cells, tokens, weights, firstToken }: AttentionMap, id: string): MapData {
  const bytes = (values: Float32Array) =>
    Buffer.from(Uint8Array.from(values, (value) => Math.round(255 * Math.sqrt(Math.min(1, value))))).toString(
      'base64',
    );
  const perCell = Math.ceil(tokens / cells);
  return { id, cells, perCell, weights: bytes(weights), firstToken: bytes(firstToken) };
}

function layersPanel({ name, diagnosis }: DiagnosedModel): string {
  const { headings, rows } = layerTable(diagnosis.layers);
  const columns = headings.map((heading) => [heading, 'number'] as const);
  return panel(`Layer by layer: ${name}`, '', table(columns, rows), 'panel wide');
}
