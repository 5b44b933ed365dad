/// <reference lib="dom" />
/** Runs in the page of a diagnosis. Draws the attention maps. */

import { isDark, keepDrawn, pageData } from '../report/page/theme.ts';
import type { MapData } from './data.ts';

const maps = pageData<MapData[]>('diagnosis-data');
const readout = document.getElementById('map-readout');

type Color = readonly [red: number, green: number, blue: number];

/** From no weight to all of it. */
const RAMPS: Record<'light' | 'dark', readonly Color[]> = {
  light: [
    [246, 248, 251],
    [150, 190, 240],
    [36, 89, 184],
    [10, 22, 60],
  ],
  dark: [
    [16, 20, 27],
    [40, 78, 150],
    [127, 176, 255],
    [245, 250, 255],
  ],
};

function rampColor(ramp: readonly Color[], share: number): number[] {
  const place = share * (ramp.length - 1);
  const index = Math.min(ramp.length - 2, Math.floor(place));
  const [from, to] = [ramp[index]!, ramp[index + 1]!];
  return from.map((value, channel) => value + (to[channel]! - value) * (place - index));
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

interface DrawnMap {
  readonly map: MapData;
  readonly weights: Uint8Array;
  readonly firstToken: Uint8Array;
  /** Columns of the strip of the first token, with the gap after it. */
  readonly strip: number;
  readonly gap: number;
}

const drawnMaps: DrawnMap[] = maps.map((map) => ({
  map,
  weights: bytesOf(map.weights),
  firstToken: bytesOf(map.firstToken),
  strip: Math.max(1, Math.round(map.cells / 24)),
  gap: Math.max(1, Math.round(map.cells / 60)),
}));

/** A pixel for each cell; the page's style makes them larger. */
function draw({ map, weights, firstToken, strip, gap }: DrawnMap): void {
  const canvas = document.getElementById(map.id) as HTMLCanvasElement | null;
  const context = canvas?.getContext('2d');
  if (!canvas || !context) return;
  const ramp = RAMPS[isDark() ? 'dark' : 'light'];
  const { cells } = map;
  canvas.width = strip + gap + cells;
  canvas.height = cells;
  const image = context.createImageData(canvas.width, cells);
  for (let row = 0; row < cells; row++) {
    for (let x = 0; x < canvas.width; x++) {
      const column = x - strip - gap;
      if ((x >= strip && column < 0) || column > row) continue;
      const byte = x < strip ? firstToken[row]! : weights[row * cells + column]!;
      image.data.set([...rampColor(ramp, byte / 255), 255], 4 * (row * canvas.width + x));
    }
  }
  context.putImageData(image, 0, 0);
}

function rangeText(cell: number, perCell: number): string {
  return perCell === 1 ? String(cell) : `${cell * perCell}–${(cell + 1) * perCell - 1}`;
}

function tell(event: MouseEvent, { map, weights, firstToken, strip, gap }: DrawnMap): string {
  const canvas = event.currentTarget as HTMLCanvasElement;
  const x = Math.floor((event.offsetX / canvas.clientWidth) * canvas.width);
  const row = Math.min(map.cells - 1, Math.floor((event.offsetY / canvas.clientHeight) * canvas.height));
  const column = x - strip - gap;
  if (row < 0 || (x >= strip && column < 0) || column > row) return '';
  const byte = x < strip ? firstToken[row]! : weights[row * map.cells + column]!;
  const token = x < strip ? '0' : rangeText(column, map.perCell);
  return `query ${rangeText(row, map.perCell)} gives token ${token} ${((byte / 255) ** 2).toFixed(3)}`;
}

keepDrawn(() => {
  for (const map of drawnMaps) draw(map);
});
for (const drawn of drawnMaps) {
  const canvas = document.getElementById(drawn.map.id);
  canvas?.addEventListener('mousemove', (event) => {
    if (readout) readout.textContent = tell(event, drawn);
  });
  canvas?.addEventListener('mouseleave', () => {
    if (readout) readout.textContent = '';
  });
}
