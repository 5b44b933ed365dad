/// <reference lib="dom" />
/** Runs in the live page: shows where the address says, listens to the server, and answers the keyboard. */

import { outlierSwitch } from '../../report/page/charts.ts';
import { addSchemeSwitch, keepDrawn } from '../../report/page/theme.ts';
import type { ListedRun } from '../runList.ts';
import { make } from './elements.ts';
import { LiveRun, showRange } from './liveRun.ts';
import { Overview } from './overview.ts';
import { addressOf, choosePlace, eventsAddress, listenToParts, placeNow } from './place.ts';

const bar = document.getElementById('bar')!;
const head = document.getElementById('head')!;
const main = document.getElementById('main')!;

let view: Overview | LiveRun;
let shownRun: string | undefined | null = null;
let events: { readonly address: string; readonly close: () => void } | undefined;
let lastOverview = '#/';
let knownRuns: readonly Pick<ListedRun, 'id' | 'name'>[] = [];
const barItems = make('span', { class: 'items' });
const connection = make('span', { class: 'connection', role: 'status' });

function show(): void {
  const place = placeNow();
  if (place.run !== shownRun) {
    shownRun = place.run;
    view = place.run === undefined ? new Overview() : new LiveRun();
    document.title = 'Sluice';
    head.className = place.run === undefined ? 'empty' : '';
    view.open(head, main);
    scrollTo(0, 0);
  } else if (view instanceof Overview) view.redraw(false);
  if (place.run === undefined) lastOverview = addressOf(place);
  drawBar();
  const address = eventsAddress(place);
  if (events?.address === address) return;
  events?.close();
  const shown = view;
  const close = listenToParts(address, {
    parts: (changed) => {
      if (Array.isArray(changed.runs)) knownRuns = changed.runs as readonly ListedRun[];
      shown.update(changed);
    },
    connection: (isThere) => {
      connection.textContent = isThere ? 'live' : 'no connection; trying again';
      connection.className = isThere ? 'connection there' : 'connection';
    },
  });
  events = { address, close };
}

function redrawAll(): void {
  if (view instanceof Overview) view.redraw(true);
  else view.draw();
}

function drawBar(): void {
  const { run, query } = placeNow();
  const items: (Node | string)[] = [
    make('a', { href: lastOverview, class: 'home' }, run === undefined ? 'Sluice' : '← All runs'),
  ];
  if (run !== undefined) {
    const others = make('select', {
      'aria-label': 'Run whose configuration is compared',
      change: () => choosePlace({ against: others.value || undefined }),
    });
    others.append(make('option', { value: '' }, 'no other run'));
    for (const { id, name } of knownRuns) {
      if (id !== run)
        others.append(make('option', { value: id, selected: id === query.get('against') }, name));
    }
    items.push(make('label', {}, 'Configuration against ', others));
    if (query.has('from')) {
      const text = `Steps ${query.get('from')} to ${query.get('to')}: show all (r)`;
      items.push(make('button', { type: 'button', click: () => showRange(undefined) }, text));
    }
    items.push(
      make('a', { href: `runs/${run}/report.html`, target: '_blank', rel: 'noopener' }, 'As one file'),
    );
  }
  barItems.replaceChildren(...items);
}

/** The run before or after this one in the list. */
function stepThroughRuns(by: number): void {
  const { run } = placeNow();
  const at = knownRuns.findIndex(({ id }) => id === run);
  const next = knownRuns[at + by];
  if (at >= 0 && next) location.hash = `#/run/${next.id}`;
}

/** Moves the focus through the list of runs. */
function stepThroughList(by: number): void {
  const boxes = [...document.querySelectorAll<HTMLElement>('[data-focus]')];
  const at = boxes.indexOf(document.activeElement as HTMLElement);
  boxes[at < 0 ? 0 : Math.min(boxes.length - 1, Math.max(0, at + by))]?.focus();
}

const KEYS: Readonly<Record<string, () => void>> = {
  '/': () => document.getElementById('filter')?.focus(),
  j: () => stepThroughList(1),
  k: () => stepThroughList(-1),
  n: () => stepThroughRuns(1),
  p: () => stepThroughRuns(-1),
  r: () => showRange(undefined),
  Enter: () => {
    const id = (document.activeElement as HTMLElement | null)?.dataset.focus;
    if (id) location.hash = `#/run/${id}`;
  },
  Escape: () => {
    if (placeNow().run !== undefined) location.hash = lastOverview;
  },
};

addEventListener('keydown', (event) => {
  const { target, key } = event;
  const isTyping =
    target instanceof HTMLSelectElement || (target instanceof HTMLInputElement && target.type !== 'checkbox');
  if (event.ctrlKey || event.metaKey || event.altKey || !(key in KEYS)) return;
  if (isTyping && key !== 'Escape') return;
  if (key === '/' || (key === 'Enter' && target instanceof HTMLInputElement)) event.preventDefault();
  KEYS[key]!();
});

document
  .getElementById('foot')!
  .append(
    make(
      'p',
      { class: 'hint' },
      'Keys: j k through the list, space to choose, Enter to open, n p next and previous run, r all steps, o outliers, Esc back, / filter, d dark or light.',
    ),
  );
bar.append(barItems, outlierSwitch(redrawAll), connection);
addSchemeSwitch(bar);
addEventListener('hashchange', show);
addEventListener('popstate', show);
addEventListener('sluice-place', show);
show();
addEventListener('beforeprint', () => {
  if (view instanceof LiveRun) view.finish();
});
// What is drawn depends on colours and width.
keepDrawn(redrawAll);
