/// <reference lib="dom" />
/** All runs in a list, and the curves of those that are chosen. */

import type { AxisName, Comparison, MeasureName } from '../compare.ts';
import type { ListedRun } from '../runList.ts';
import { curveLook, drawComparison } from './compareChart.ts';
import { clockText, countText, durationText, fixedText, make } from './elements.ts';
import { choosePlace, placeNow } from './place.ts';

interface ListedExperiment {
  readonly id: string;
  readonly name: string;
  readonly progress: string;
  readonly hasReport: boolean;
}

interface OverviewData {
  runs: readonly ListedRun[];
  experiments: readonly ListedExperiment[];
  comparison: Comparison | null;
}

const MEASURE_NAMES: Readonly<Record<MeasureName, string>> = {
  loss: 'training loss',
  validation: 'validation loss',
  norm: 'gradient norm',
  rate: 'learning rate',
  throughput: 'throughput',
  seconds: 'time of a step',
  waiting: 'waiting',
  communicate: 'communication',
  violation: 'expert imbalance',
  memory: 'peak memory',
};
const AXIS_NAMES: Readonly<Record<AxisName, string>> = { step: 'steps', tokens: 'tokens', hours: 'time' };
const SMOOTHINGS = [0, 5, 20, 50, 200, 1000, 5000];

/** Runs that are shown where none was chosen. */
const FIRST_CHOSEN = 4;

export class Overview {
  readonly #data: OverviewData = { runs: [], experiments: [], comparison: null };
  readonly #list = make('section', { class: 'panel wide' });
  readonly #chart = make('div', { class: 'plot', role: 'group', 'aria-label': 'Runs over each other' });
  readonly #controls = make('div', { class: 'controls' });
  readonly #unit = make('span', { class: 'unit' });
  readonly #title = make('h2', {}, 'Runs over each other');
  readonly #experiments = make('div', { class: 'contents' });
  readonly #filter = make('input', {
    ...{
      type: 'search',
      placeholder: 'filter (key /)',
      'aria-label': 'Filter the runs by name',
      id: 'filter',
    },
    input: () => choosePlace({ filter: this.#filter.value || undefined }),
  });
  readonly #rows = make('tbody');
  readonly #count = make('span', { class: 'unit' });

  /** Puts the view into the page. */
  open(head: HTMLElement, main: HTMLElement): void {
    head.replaceChildren();
    this.#filter.value = placeNow().query.get('filter') ?? '';
    const headings = [
      '',
      'Run',
      'State',
      'Step',
      'Loss',
      'Validation',
      'Tokens/s',
      'Left',
      'Spikes',
      'Last step',
    ];
    const numbers = new Set(['Step', 'Loss', 'Validation', 'Tokens/s', 'Left', 'Spikes']);
    this.#list.replaceChildren(
      make('div', { class: 'heading' }, make('h2', {}, 'Runs'), this.#count, this.#filter),
      make(
        'div',
        { class: 'scroll' },
        make(
          'table',
          { class: 'runs' },
          make(
            'thead',
            {},
            make(
              'tr',
              {},
              ...headings.map((text) => make('th', { class: numbers.has(text) ? 'number' : '' }, text)),
            ),
          ),
          this.#rows,
        ),
      ),
    );
    main.replaceChildren(
      this.#list,
      make(
        'section',
        { class: 'panel wide' },
        make('div', { class: 'heading' }, this.#title, this.#unit),
        this.#controls,
        this.#chart,
        make('p', { class: 'hint' }, 'Drag to zoom; double-click to see all.'),
      ),
      this.#experiments,
    );
  }

  update(changed: Readonly<Record<string, unknown>>): void {
    Object.assign(this.#data, changed);
    if (!placeNow().query.has('runs') && this.#data.runs.length > 0) {
      choosePlace({ runs: firstChosen(this.#data.runs).join(',') });
      return;
    }
    this.#drawList();
    this.#drawControls();
    if (changed.comparison !== undefined) this.drawChart(false);
    this.#drawExperiments();
  }

  /** What the page itself changes: filter and axes. */
  redraw(force: boolean): void {
    this.#drawList();
    this.#drawControls();
    this.drawChart(force);
  }

  drawChart(force: boolean): void {
    const { comparison } = this.#data;
    if (!comparison) return;
    const { query } = placeNow();
    this.#title.textContent = comparison.title;
    this.#unit.textContent = comparison.unit;
    const look = { logarithmicX: query.has('logx'), logarithmicY: query.has('logy') };
    drawComparison(this.#chart, comparison, look, force);
  }

  #drawList(): void {
    const { query } = placeNow();
    const chosen = chosenRuns();
    const filter = (query.get('filter') ?? '').toLowerCase();
    const { runs } = this.#data;
    const shown = runs.filter(({ name }) => name.toLowerCase().includes(filter));
    this.#count.textContent =
      shown.length === runs.length ? String(runs.length) : `${shown.length} of ${runs.length}`;
    const active = (document.activeElement as HTMLElement | null)?.dataset.focus;
    const rows = shown.flatMap((run, index) => {
      const isNewGroup = run.group !== null && run.group !== shown[index - 1]?.group;
      const heading = make('tr', { class: 'group' }, make('td', { colspan: 10 }, run.group ?? ''));
      return [...(isNewGroup ? [heading] : []), runRow(run, chosen)];
    });
    this.#rows.replaceChildren(...rows);
    if (active) this.#rows.querySelector<HTMLElement>(`[data-focus="${active}"]`)?.focus();
    if (runs.length === 0) {
      this.#rows.replaceChildren(make('tr', {}, make('td', { colspan: 10 }, 'There is no run here yet.')));
    }
  }

  #drawControls(): void {
    const { query } = placeNow();
    const active = (document.activeElement as HTMLElement | null)?.id;
    const select = (
      id: string,
      label: string,
      options: readonly (readonly [string, string])[],
      otherwise: string,
    ) => {
      const value = query.get(id) ?? otherwise;
      const list = make('select', {
        id: `choose-${id}`,
        change: () => choosePlace({ [id]: list.value === otherwise ? undefined : list.value }),
      });
      for (const [option, text] of options) {
        list.append(make('option', { value: option, selected: option === value }, text));
      }
      return make('label', {}, `${label} `, list);
    };
    const check = (id: string, label: string) => {
      const box = make('input', {
        ...{ type: 'checkbox', id: `choose-${id}`, checked: query.has(id) },
        change: () => choosePlace({ [id]: box.checked ? '1' : undefined }),
      });
      return make('label', {}, box, ` ${label}`);
    };
    const chosen = chosenRuns();
    const names = this.#data.runs
      .filter(({ id }) => chosen.includes(id))
      .map(({ id, name }) => [id, name] as const);
    this.#controls.replaceChildren(
      select('measure', 'Show', Object.entries(MEASURE_NAMES), 'loss'),
      select('axis', 'over', Object.entries(AXIS_NAMES), 'step'),
      select(
        'smoothing',
        'smoothed over',
        SMOOTHINGS.map((n) => [String(n), n === 0 ? 'nothing' : `${n} steps`]),
        '20',
      ),
      select('base', 'less', [['', 'nothing'], ...names], ''),
      check('logy', 'logarithmic'),
      check('logx', 'logarithmic along'),
    );
    if (active?.startsWith('choose-')) document.getElementById(active)?.focus();
  }

  #drawExperiments(): void {
    const { experiments } = this.#data;
    const rows = experiments.map(({ id, name, progress, hasReport }) =>
      make(
        'li',
        {},
        hasReport
          ? make('a', { href: `experiments/${id}/report.html`, target: '_blank', rel: 'noopener' }, name)
          : name,
        make('span', { class: 'unit' }, ` ${progress}`),
      ),
    );
    const panel = make(
      'section',
      { class: 'panel wide' },
      make('div', { class: 'heading' }, make('h2', {}, 'Experiments')),
      make('ul', { class: 'plain' }, ...rows),
    );
    this.#experiments.replaceChildren(...(rows.length > 0 ? [panel] : []));
  }
}

function chosenRuns(): string[] {
  return (placeNow().query.get('runs') ?? '').split(',').filter((id) => id !== '');
}

/** Those that go on, or else those that did last. */
function firstChosen(runs: readonly ListedRun[]): string[] {
  const byTime = runs.toSorted((a, b) => (b.updated ?? '').localeCompare(a.updated ?? ''));
  const going = byTime.filter(({ state }) => state === 'running');
  return (going.length > 0 ? going : byTime).slice(0, FIRST_CHOSEN).map(({ id }) => id);
}

function runRow(run: ListedRun, chosen: readonly string[]): HTMLElement {
  const index = chosen.indexOf(run.id);
  const box = make('input', {
    ...{
      type: 'checkbox',
      checked: index >= 0,
      'data-focus': run.id,
      'aria-label': `Show the curve of ${run.name}`,
    },
    change: () => {
      const others = chosen.filter((id) => id !== run.id);
      choosePlace({ runs: (box.checked ? [...others, run.id] : others).join(',') });
    },
  });
  const swatch = make('span', { class: 'line-of-run' });
  if (index >= 0) {
    const { stroke, dash } = curveLook(index);
    swatch.style.borderTop = `3px ${dash.length > 0 ? 'dashed' : 'solid'} ${stroke}`;
  }
  const share = run.steps ? Math.min(1, run.step / run.steps) : 0;
  const bar = make('progress', { max: 1, value: share, 'aria-label': `${Math.round(100 * share)} % done` });
  const number = (text: string) => make('td', { class: 'number' }, text);
  return make(
    'tr',
    {},
    make('td', {}, make('label', { class: 'choice' }, box, swatch)),
    make('td', { class: 'name' }, make('a', { href: `#/run/${run.id}`, title: run.name }, run.name)),
    make('td', {}, make('span', { class: `badge ${run.state}`, title: run.status }, run.state)),
    make(
      'td',
      { class: 'number' },
      bar,
      ` ${countText(run.step)}${run.steps === null ? '' : ` / ${countText(run.steps)}`}`,
    ),
    number(fixedText(run.loss, 4)),
    number(fixedText(run.validationLoss, 4)),
    number(countText(run.tokensPerSecond)),
    number(durationText(run.secondsLeft)),
    number(run.spikes === 0 ? '' : `${run.spikes}${run.rollbacks > 0 ? ` (back ${run.rollbacks}×)` : ''}`),
    make('td', {}, clockText(run.updated)),
  );
}
