/** What was measured of each layer, over the run: heat maps, and histograms of gate scores. */

import type { LayerDiagnostics } from '@sluice/train';
import type { DiagnosticsRecord } from '../diagnosticsLog.ts';
import type { GateHistogramData, LayerMapData } from './data.ts';
import { Thinner } from './downsample.ts';

/** Measurements that are shown side by side; a map has about as many columns of pixels as this allows. */
const SNAPSHOTS = 160;
const HISTOGRAMS = 96;

/** Digits of the numbers in the page: colours tell no more. */
const DIGITS = 3;

interface MapKind {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly logarithmic?: boolean;
  /** Ends of the colours; those of the numbers themselves where there is none. */
  readonly ends?: readonly [number, number];
  readonly fromZero?: boolean;
  readonly value: (layer: LayerDiagnostics) => number | null | undefined;
}

const KINDS: readonly MapKind[] = [
  {
    ...{ id: 'map-first-token', title: 'Attention to the first token', unit: 'share, layer by layer' },
    fromZero: true,
    value: (layer) => layer.firstTokenAttention,
  },
  {
    ...{ id: 'map-activation', title: 'Massive activations', unit: 'largest magnitude, layer by layer' },
    logarithmic: true,
    value: (layer) => layer.massiveActivation,
  },
  {
    ...{ id: 'map-gate', title: 'Gate scores', unit: 'mean, layer by layer' },
    ends: [0, 1],
    value: (layer) => layer.gateScoreMean,
  },
  {
    ...{ id: 'map-closed', title: 'Gates that close', unit: 'share of scores below 0.1, layer by layer' },
    ends: [0, 1],
    value: ({ gates }) =>
      gates.length === 0 ? null : gates.reduce((sum, gate) => sum + gate.belowTenth, 0) / gates.length,
  },
];

interface LayersAt {
  readonly step: number;
  /** For each kind of map, layer by layer. */
  readonly values: readonly (readonly (number | null)[])[];
}

interface GatesAt {
  readonly step: number;
  readonly gates: readonly { readonly name: string; readonly histogram: readonly number[] }[];
}

export class LayerHistory {
  readonly #layers = new Thinner<LayersAt>(SNAPSHOTS);
  readonly #gates = new Thinner<GatesAt>(HISTOGRAMS);

  add({ step, layers, gates }: DiagnosticsRecord): void {
    this.#layers.add({
      step,
      values: KINDS.map(({ value }) => layers.map((layer) => rounded(value(layer) ?? null))),
    });
    this.#gates.add({ step, gates: gates.map(({ name, histogram }) => ({ name, histogram })) });
  }

  /** Forgets what was measured after a step. */
  cut(step: number): void {
    this.#layers.cut((at) => at.step <= step);
    this.#gates.cut((at) => at.step <= step);
  }

  /** Those that have any number. */
  maps(): LayerMapData[] {
    const snapshots = this.#layers.items;
    return KINDS.flatMap(({ value: _, ends, fromZero, ...kind }, index) => {
      const values = snapshots.map((at) => at.values[index]!);
      const numbers = values.flat().filter((value) => value !== null);
      if (numbers.length === 0) return [];
      const [low, high] = ends ?? [fromZero ? 0 : smallest(numbers), largest(numbers)];
      return [
        { ...kind, low, high, steps: snapshots.map(({ step }) => step), layers: values[0]!.length, values },
      ];
    });
  }

  gateHistograms(): GateHistogramData | undefined {
    const snapshots = this.#gates.items;
    const first = snapshots[0]?.gates ?? [];
    const bins = first[0]?.histogram.length ?? 0;
    if (bins === 0) return undefined;
    return {
      steps: snapshots.map(({ step }) => step),
      bins,
      gates: first.map(({ name }, gate) => ({
        name,
        values: snapshots.map(({ gates }) =>
          (gates[gate]?.histogram ?? []).map((share) => rounded(share) ?? 0),
        ),
      })),
    };
  }
}

function rounded(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? Number(value.toPrecision(DIGITS)) : null;
}

function smallest(values: readonly number[]): number {
  return values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
}
