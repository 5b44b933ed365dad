/** The report's section on what was measured inside of the model. */

import type { GateDiagnostics, LayerDiagnostics } from '@sluice/train';
import { type DiagnosticsRecord, readDiagnostics } from '../diagnosticsLog.ts';
import { formatNumber } from '../format.ts';
import type { ChartData, GateHistogramData, LayerMapData, SeriesRole, StepRange } from './data.ts';
import { selectExtremes } from './downsample.ts';
import { LayerHistory } from './layerHistory.ts';

/** Points of one series in the page. */
const POINTS = 400;

export interface CollectedDiagnostics {
  readonly charts: readonly ChartData[];
  readonly layerMaps: readonly LayerMapData[];
  readonly gateHistograms: GateHistogramData | undefined;
  /** The last measurement; undefined where there is none. */
  readonly last: DiagnosticsRecord | undefined;
}

type Overall = Omit<DiagnosticsRecord, 'layers'> & { readonly highestFirstTokenAttention: number };
type Line = readonly [
  label: string,
  role: SeriesRole,
  value: (overall: Overall) => number | null | undefined,
];

const CHARTS: readonly (Omit<ChartData, 'steps' | 'series'> & { readonly lines: readonly Line[] })[] = [
  {
    id: 'first-token-attention',
    title: 'Attention to the first token',
    unit: 'share, without query 0',
    numbers: 'plain',
    fromZero: true,
    lines: [
      ['mean of layers', 'first', (d) => d.firstTokenAttention],
      ['highest layer', 'second', (d) => d.highestFirstTokenAttention],
      ['if spread evenly', 'reference', (d) => evenAttention(d.sequenceLength)],
    ],
  },
  {
    id: 'massive-activation',
    title: 'Massive activations',
    unit: 'largest magnitude',
    numbers: 'plain',
    logarithmic: true,
    lines: [
      ['layer outputs, mean of layers', 'first', (d) => d.massiveActivation],
      ['largest of all', 'second', (d) => d.largestActivation],
      ['feed-forward outputs, mean of layers', 'third', (d) => d.feedForwardActivation],
    ],
  },
  {
    id: 'gate-score',
    title: 'Gate scores',
    unit: 'mean of layers',
    numbers: 'plain',
    fromZero: true,
    lines: [
      ['mean', 'first', (d) => d.gateScoreMean],
      ['share below 0.1', 'second', (d) => meanOfGates(d.gates, 'belowTenth')],
      ['share above 0.9', 'third', (d) => meanOfGates(d.gates, 'aboveNineTenths')],
    ],
  },
  {
    id: 'hidden-sparsity',
    title: 'Attention outputs near zero',
    unit: 'share below 1e-2, mean of layers',
    numbers: 'plain',
    fromZero: true,
    lines: [
      ['after the gate', 'first', (d) => d.attentionOutput?.after.belowHundredth],
      ['before it', 'second', (d) => d.attentionOutput?.before.belowHundredth],
      ['if scaled by the mean score', 'third', (d) => d.attentionOutput?.withMeanScore?.belowHundredth],
    ],
  },
  {
    id: 'hidden-mean',
    title: 'Size of attention outputs',
    unit: 'mean magnitude, mean of layers',
    numbers: 'plain',
    fromZero: true,
    lines: [
      ['after the gate', 'first', (d) => d.attentionOutput?.after.meanAbsolute],
      ['before it', 'second', (d) => d.attentionOutput?.before.meanAbsolute],
    ],
  },
  {
    id: 'attention-logit',
    title: 'Largest attention logit',
    unit: 'of all layers',
    numbers: 'plain',
    lines: [['largest logit', 'first', (d) => d.largestAttentionLogit]],
  },
  {
    id: 'attention-entropy',
    title: 'Attention entropy',
    unit: 'nats, mean of layers',
    numbers: 'plain',
    fromZero: true,
    lines: [['entropy', 'first', (d) => d.attentionEntropy]],
  },
  {
    id: 'update-ratio',
    title: 'Size of an update',
    unit: 'relative to the weights',
    numbers: 'exponential',
    logarithmic: true,
    lines: [['whole model', 'first', (d) => d.updateRatio]],
  },
  {
    id: 'router',
    title: 'Router',
    unit: 'nats, mean of layers',
    numbers: 'plain',
    fromZero: true,
    lines: [
      ['entropy of its probabilities', 'first', (d) => d.router?.entropy],
      ['entropy of the load', 'second', (d) => d.router?.loadEntropy],
    ],
  },
];

/**
 * Attention to the first token of a model that attends to all tokens alike: the mean of 1/(i + 1) over the queries i ≥ 1. A
 * sink is what exceeds it.
 */
export function evenAttention(sequenceLength: number): number {
  let sum = 0;
  for (let query = 1; query < sequenceLength; query++) sum += 1 / (query + 1);
  return sum / (sequenceLength - 1);
}

/** A share, or another number, of a layer's or a model's gates; undefined where there are none. */
export function meanOfGates(
  gates: readonly GateDiagnostics[],
  field: 'belowTwentieth' | 'belowTenth' | 'aboveNineTenths' | 'largestWeightNorm',
): number | undefined {
  const numbers = gates.flatMap((gate) => gate[field] ?? []);
  // Older measurements lack some.
  if (numbers.length === 0) return undefined;
  return numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
}

/** Reads `diagnostics.jsonl` and reduces it to plots of bounded size. */
export async function collectDiagnostics(path: string): Promise<CollectedDiagnostics> {
  const measurements = new Measurements();
  for await (const record of readDiagnostics(path)) measurements.add(record);
  return describeDiagnostics(measurements);
}

/** What was measured of a run, so much of it as the page shows. */
export class Measurements {
  overalls: Overall[] = [];
  readonly layers = new LayerHistory();
  last: DiagnosticsRecord | undefined;

  add(record: DiagnosticsRecord): void {
    const { layers, ...overall } = record;
    const highest = layers.reduce((most, layer) => Math.max(most, layer.firstTokenAttention ?? 0), 0);
    // Histograms are in the history of the layers, thinned.
    const gates = overall.gates.map((gate) => ({ ...gate, histogram: [] }));
    this.overalls.push({ ...overall, gates, highestFirstTokenAttention: highest });
    this.layers.add(record);
    this.last = record;
  }

  /**
   * Takes all but the first ones back.
   * @param last the last of those; of all but the last, only what the charts show is held
   */
  cut(count: number, last: DiagnosticsRecord | undefined): void {
    this.overalls.length = Math.min(this.overalls.length, count);
    this.layers.cut(this.overalls.at(-1)?.step ?? 0);
    this.last = last;
  }
}

/** @param range steps that are shown; all when left out */
export function describeDiagnostics(
  { overalls, layers, last }: Measurements,
  range?: StepRange | undefined,
): CollectedDiagnostics {
  const shown = range ? overalls.filter(({ step }) => step >= range.from && step <= range.to) : overalls;
  const charts = CHARTS.map(({ lines, ...chart }): ChartData => {
    const columns = lines.map(([label, role, value]) => ({
      label,
      role,
      values: shown.map((overall) => value(overall) ?? Number.NaN),
    }));
    const chosen = new Set(columns.flatMap(({ values }) => selectExtremes(values, POINTS)));
    const order = [...chosen].sort((a, b) => a - b);
    return {
      ...chart,
      steps: order.map((index) => shown[index]!.step),
      series: columns.map(({ values, ...column }) => ({
        ...column,
        values: order.map((index) => (Number.isFinite(values[index]) ? values[index]! : null)),
      })),
    };
  });
  return {
    last,
    layerMaps: layers.maps(),
    gateHistograms: layers.gateHistograms(),
    charts: charts.filter((chart) => chart.series.some(({ values }) => values.some((v) => v !== null))),
  };
}

type Column = readonly [heading: string, value: (layer: LayerDiagnostics) => number | null | undefined];

const COLUMNS: readonly Column[] = [
  ['To first token', (l) => l.firstTokenAttention],
  ['max |h|', (l) => l.massiveActivation],
  ['max |feed-forward|', (l) => l.feedForwardActivation],
  ['Gate score', (l) => l.gateScoreMean],
  ['Scores < 0.1', (l) => meanOfGates(l.gates, 'belowTenth')],
  ['Scores < 0.05', (l) => meanOfGates(l.gates, 'belowTwentieth')],
  ['Gate ‖W‖ of a head', (l) => meanOfGates(l.gates, 'largestWeightNorm')],
  ['mean |Y|', (l) => l.attentionOutput?.before.meanAbsolute],
  ['mean |Y′|', (l) => l.attentionOutput?.after.meanAbsolute],
  ['|Y| < 0.01', (l) => l.attentionOutput?.before.belowHundredth],
  ['|Y·mean σ| < 0.01', (l) => l.attentionOutput?.withMeanScore?.belowHundredth],
  ['|Y′| < 0.01', (l) => l.attentionOutput?.after.belowHundredth],
  ['Largest logit', (l) => l.largestAttentionLogit],
  ['Entropy', (l) => l.attentionEntropy],
  ['Kept by a token', (l) => l.recurrence?.keptMean],
  ['β', (l) => l.recurrence?.betaMean],
  ['Update', (l) => l.updateRatio],
  ['Max violation', (l) => l.router?.maxViolation],
  ['Dead experts', (l) => l.router?.deadExperts],
  ['Range of bias', (l) => l.router?.biasRange],
];

/** Layer by layer, the columns that have anything. */
export function layerTable(layers: readonly LayerDiagnostics[]): {
  headings: string[];
  rows: string[][];
} {
  const used = COLUMNS.filter(([, value]) => layers.some((layer) => value(layer) != null));
  return {
    headings: ['Layer', ...used.map(([heading]) => heading)],
    rows: layers.map((layer) => [
      String(layer.layer),
      ...used.map(([, value]) => formatShort(value(layer) ?? Number.NaN)),
    ]),
  };
}

/** Whole numbers as they are, others with three digits. */
export function formatShort(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) < 1 && Math.abs(value) >= 0.001 ? value.toPrecision(3) : formatNumber(value);
}
