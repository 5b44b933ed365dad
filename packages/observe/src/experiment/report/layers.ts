/** Sinks, massive activations and gates of every row, layer by layer, as heat maps. */

import type { Scale } from '../../figures/svg.ts';
import { type TrackRow, tracks } from '../../figures/tracks.ts';
import { formatShort } from '../../report/diagnostics.ts';
import { panel, paragraph } from '../../report/elements.ts';
import type { RowSummary } from '../compare.ts';
import type { ExperimentDiagnosis } from '../results.ts';
import { mean } from '../statistics.ts';

type Layer = ExperimentDiagnosis['layers'][number];

interface LayerMap {
  readonly title: string;
  readonly unit: string;
  readonly value: (layer: Layer) => number | null;
  /** Shades tell logarithms. */
  readonly logarithmic: boolean;
}

const MAPS: readonly LayerMap[] = [
  {
    ...{ title: 'Attention to the first token by layer', unit: 'share', logarithmic: false },
    value: (layer) => layer.firstTokenAttention,
  },
  {
    ...{ title: 'Massive activations by layer', unit: 'largest magnitude; shades of its logarithm' },
    ...{ logarithmic: true, value: (layer) => layer.massiveActivation },
  },
  {
    ...{ title: 'Gate scores by layer', unit: 'mean', logarithmic: false },
    value: (layer) => layer.gateScoreMean,
  },
];

/** Layers whose numbers have room in their cells. */
const NUMBERED = 8;

/** A panel for each measure that some row has by layer. */
export function layerPanels(rows: readonly RowSummary[]): string[] {
  return MAPS.flatMap((map) => {
    const drawn = rows.flatMap((summary) => {
      const values = layerMeans(summary, map.value);
      return values.some(Number.isFinite) ? [{ summary, values }] : [];
    });
    if (drawn.length === 0) return [];
    const all = drawn.flatMap(({ values }) => values.filter(Number.isFinite));
    const shade = shadeOf(all, map.logarithmic);
    const layers = Math.max(...drawn.map(({ values }) => values.length));
    const trackRows = drawn.map(({ summary, values }): TrackRow => {
      const known = values.filter(Number.isFinite);
      const place = layers <= NUMBERED;
      return {
        name: summary.label,
        // One colour, so that shades of different rows compare.
        color: 0,
        value: `${formatShort(Math.min(...known))} to ${formatShort(Math.max(...known))}`,
        marks: values.flatMap((value, layer) =>
          Number.isFinite(value)
            ? [
                {
                  ...{ kind: 'cell' as const, from: layer, to: layer + 1, shade: shade(value) },
                  text: place ? formatShort(Number(value.toPrecision(2))) : '',
                  title: `${summary.label}, layer ${layer}: ${formatShort(value)}`,
                },
              ]
            : [],
        ),
      };
    });
    const hint = `Darker: larger, the same for all rows, from ${formatShort(Math.min(...all))} to ${formatShort(Math.max(...all))}. Mean of the seeds that finished.`;
    const picture = tracks(trackRows, {
      scale: layerScale(layers),
      label: 'lowest to highest',
      format: layerLabel,
    });
    return [panel(map.title, map.unit, `${picture}${paragraph('hint', hint)}`, 'panel wide')];
  });
}

/** Of the runs that finished; NaN where a layer has no value. */
function layerMeans({ runs }: RowSummary, value: LayerMap['value']): number[] {
  const models = runs.flatMap(({ outcome, diagnosis }) =>
    outcome === 'finished' && diagnosis ? [diagnosis.layers] : [],
  );
  const layers = Math.max(0, ...models.map((each) => each.length));
  return Array.from({ length: layers }, (_, layer) =>
    mean(models.flatMap((each) => (each[layer] ? [value(each[layer])] : [])).filter((one) => one !== null)),
  );
}

function shadeOf(values: readonly number[], logarithmic: boolean): (value: number) => number {
  const usable = values.filter((value) => !logarithmic || value > 0);
  const place = (value: number) => (logarithmic ? Math.log(Math.max(value, Number.MIN_VALUE)) : value);
  const low = logarithmic ? place(Math.min(...usable)) : Math.min(0, ...usable);
  const high = place(Math.max(...usable));
  // The smallest is still seen to be there.
  return (value) => {
    const share = high > low ? (place(value) - low) / (high - low) : 1;
    return 0.06 + 0.94 * Math.min(1, Math.max(0, share || 0));
  };
}

/** Cells of a width of one, each labelled in its middle where there is room. */
function layerScale(layers: number): Scale {
  const every = Math.ceil(layers / 8);
  const ticks = Array.from({ length: layers }, (_, layer) => layer + 0.5).filter((_, i) => i % every === 0);
  return { ticks, share: (value) => value / layers };
}

const layerLabel = (tick: number) => String(Math.floor(tick));
