/// <reference lib="dom" />
/** The experts' loads: layers × experts at the end, and experts over the run. */

import type { LoadData } from '../data.ts';
import {
  cellAt,
  drawHeatMap,
  drawHeatScale,
  type HeatMap,
  heatPlace,
  shareColor,
  stepLabel,
} from './heatMap.ts';

let selectedLayer: number | undefined;

/** The two maps: layers × experts at the end, and experts over the steps for one layer or the mean of all. */
function loadMaps(load: LoadData): { layers: HeatMap; time: HeatMap } {
  const { layers, experts, steps, values } = load;
  const at = (snapshot: number, layer: number, expert: number) =>
    values[snapshot]?.[layer * experts + expert] ?? 0;
  const last = steps.length - 1;
  const height = Math.min(420, Math.max(96, Math.max(layers, experts) * 18));
  // A single step is noisy: the end is the mean of the last tenth.
  const tail = Math.max(0, last - Math.floor(steps.length / 10) + 1);
  const mean = (count: number, value: (index: number) => number) =>
    Array.from({ length: count }, (_, index) => value(index)).reduce((a, b) => a + b, 0) / count;
  return {
    layers: {
      ...{ height, rows: layers, columns: experts, colorOf: shareColor, selectedRow: selectedLayer },
      value: (layer, expert) =>
        mean(Math.max(1, last - tail + 1), (index) => at(Math.min(last, tail + index), layer, expert)),
      rowLabel: (layer) => `layer ${layer}`,
      ends: ['expert 0', `expert ${experts - 1}`],
    },
    time: {
      ...{ height, rows: experts, columns: steps.length, colorOf: shareColor },
      value: (expert, snapshot) =>
        selectedLayer === undefined
          ? mean(layers, (layer) => at(snapshot, layer, expert))
          : at(snapshot, selectedLayer, expert),
      rowLabel: (expert) => `expert ${expert}`,
      ends: [stepLabel(steps[0]), stepLabel(steps[last])],
    },
  };
}

/** Draws the maps where the page has their places, and answers the pointer there. */
export function drawLoad(load: LoadData): void {
  const layersCanvas = heatPlace<HTMLCanvasElement>('layers');
  const timeCanvas = heatPlace<HTMLCanvasElement>('time');
  const scale = heatPlace<HTMLCanvasElement>('load-scale');
  const title = heatPlace('title');
  const readout = heatPlace('load-readout');
  if (!layersCanvas || !timeCanvas || !scale || !title || !readout) return;
  const maps = loadMaps(load);
  title.textContent = selectedLayer === undefined ? 'All layers' : `Layer ${selectedLayer}`;
  drawHeatMap(layersCanvas, maps.layers);
  drawHeatMap(timeCanvas, maps.time);
  drawHeatScale(scale, (amount) => shareColor(2 * amount));
  const select = (layer: number | undefined) => {
    selectedLayer = layer === selectedLayer ? undefined : layer;
    drawLoad(load);
  };
  layersCanvas.onclick = (event) => select(cellAt(event, maps.layers)?.row);
  // By the keyboard: up and down go through the layers.
  layersCanvas.onkeydown = (event) => {
    const by = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (by === 0) return;
    event.preventDefault();
    select(((selectedLayer ?? (by > 0 ? -1 : load.layers)) + by + load.layers) % load.layers);
  };
  layersCanvas.onmousemove = (event) => {
    const cell = cellAt(event, maps.layers);
    const value = cell && maps.layers.value(cell.row, cell.column);
    readout.textContent = cell ? `layer ${cell.row}, expert ${cell.column}: ${value?.toFixed(2)}` : '';
  };
  timeCanvas.onmousemove = (event) => {
    const cell = cellAt(event, maps.time);
    const value = cell && maps.time.value(cell.row, cell.column);
    readout.textContent = cell
      ? `${stepLabel(load.steps[cell.column])}, expert ${cell.row}: ${value?.toFixed(2)}`
      : '';
  };
  for (const canvas of [layersCanvas, timeCanvas]) {
    canvas.onmouseleave = () => {
      readout.textContent = '';
    };
  }
}
