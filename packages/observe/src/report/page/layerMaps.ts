/// <reference lib="dom" />
/** Numbers of layers over the run, and histograms of gate scores over the run. */

import type { GateHistogramData, LayerMapData } from '../data.ts';
import {
  amountColor,
  cellAt,
  drawHeatMap,
  drawHeatScale,
  type HeatMap,
  heatPlace,
  stepLabel,
} from './heatMap.ts';

export function drawLayerMap(data: LayerMapData): void {
  const { steps, layers, values, low, high, logarithmic } = data;
  const scaled = (value: number) => (logarithmic ? Math.log(Math.max(value, Number.MIN_VALUE)) : value);
  const span = scaled(high) - scaled(low) || 1;
  drawMap(data.id, {
    map: {
      ...{ height: mapHeight(layers), rows: layers, columns: steps.length },
      value: (layer, snapshot) => values[snapshot]?.[layer] ?? null,
      colorOf: (value) => amountColor((scaled(value) - scaled(low)) / span),
      rowLabel: (layer) => `layer ${layer}`,
      ends: [stepLabel(steps[0]), stepLabel(steps.at(-1))],
    },
    low: shortOf(low),
    high: shortOf(high),
    tell: (layer, snapshot, value) => `${stepLabel(steps[snapshot])}, layer ${layer}: ${shortOf(value)}`,
  });
}

export function drawGateHistograms({ steps, bins, gates }: GateHistogramData): void {
  gates.forEach(({ values }, index) => {
    const most = values.flat().reduce((a, b) => Math.max(a, b), 0);
    drawMap(`gate-histogram-${index}`, {
      map: {
        ...{ height: 180, rows: bins, columns: steps.length },
        value: (row, snapshot) => values[snapshot]?.[bins - 1 - row] ?? null,
        // Few scores are to be seen beside many.
        colorOf: (share) => amountColor(Math.sqrt(share / (most || 1))),
        rowLabel: (row) => `score ${((bins - row - 0.5) / bins).toFixed(2)}`,
        ends: [stepLabel(steps[0]), stepLabel(steps.at(-1))],
      },
      low: '0',
      high: `${shortOf(100 * most)} %`,
      tell: (row, snapshot, share) => {
        const from = (bins - 1 - row) / bins;
        return `${stepLabel(steps[snapshot])}, scores ${from.toFixed(2)}–${(from + 1 / bins).toFixed(2)}: ${shortOf(100 * share)} %`;
      },
    });
  });
}

interface DrawnMap {
  readonly map: HeatMap;
  readonly low: string;
  readonly high: string;
  readonly tell: (row: number, column: number, value: number) => string;
}

function drawMap(id: string, { map, low, high, tell }: DrawnMap): void {
  const place = document.querySelector<HTMLElement>(`[data-map="${id}"]`);
  const canvas = place && heatPlace<HTMLCanvasElement>('map', place);
  const scale = place && heatPlace<HTMLCanvasElement>('scale', place);
  const readout = place && heatPlace('readout', place);
  if (!place || !canvas || !scale || !readout) return;
  drawHeatMap(canvas, map);
  drawHeatScale(scale, amountColor);
  for (const [end, text] of [
    ['low', low],
    ['high', high],
  ]) {
    const label = place.querySelector(`[data-end="${end}"]`);
    if (label) label.textContent = text!;
  }
  canvas.onmousemove = (event) => {
    const cell = cellAt(event, map);
    const value = cell && map.value(cell.row, cell.column);
    readout.textContent = cell && value != null ? tell(cell.row, cell.column, value) : '';
  };
  canvas.onmouseleave = () => {
    readout.textContent = '';
  };
}

function mapHeight(layers: number): number {
  return Math.min(360, Math.max(96, layers * 16));
}

function shortOf(value: number): string {
  return String(Number(value.toPrecision(3)));
}
