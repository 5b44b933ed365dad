/// <reference lib="dom" />
/** One run as it goes on: the report's page, section by section. */

import type {
  ChartData,
  GateHistogramData,
  LayerMapData,
  LoadData,
  ReportData,
  StepRange,
} from '../../report/data.ts';
import { RunView } from '../../report/page/runView.ts';
import { make } from './elements.ts';
import { choosePlace } from './place.ts';

export class LiveRun {
  readonly #parts = new Map<string, unknown>();
  readonly #sections = new Map<string, HTMLElement>();
  readonly #view = new RunView(
    { charts: [], spikes: [], rollbacks: [], skipped: [] },
    { onRange: (range) => showRange(range) },
  );
  #head: HTMLElement | undefined;
  #main: HTMLElement | undefined;

  open(head: HTMLElement, main: HTMLElement): void {
    this.#head = head;
    this.#main = main;
    head.replaceChildren();
    main.replaceChildren();
  }

  update(changed: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(changed)) {
      if (value === null) this.#parts.delete(name);
      else this.#parts.set(name, value);
    }
    if (typeof changed.title === 'string') document.title = `${changed.title} · Sluice`;
    // The server escaped all text in it; what is no text it wrote itself.
    if (typeof changed.header === 'string' && this.#head) this.#head.innerHTML = changed.header;
    this.#lay(changed);
    this.#view.update(this.#data());
  }

  draw(): void {
    this.#view.draw();
  }

  finish(): void {
    this.#view.finish();
  }

  /** Puts sections into their order, and new content into those that have it; the others stay as they are. */
  #lay(changed: Readonly<Record<string, unknown>>): void {
    const layout = (this.#parts.get('layout') ?? []) as readonly string[];
    for (const id of layout) {
      const html = changed[`section:${id}`];
      if (typeof html !== 'string') continue;
      const section = this.#sections.get(id) ?? make('div', { class: 'contents', 'data-section': id });
      this.#sections.set(id, section);
      const scrolled = section.querySelector('.story')?.scrollTop ?? 0;
      const wasOpen = [...section.querySelectorAll('details')].map(({ open }) => open);
      section.innerHTML = html;
      for (const [i, details] of section.querySelectorAll('details').entries())
        details.open = wasOpen[i] ?? details.open;
      const story = section.querySelector('.story');
      if (story) story.scrollTop = scrolled;
    }
    const wanted = layout.flatMap((id) => this.#sections.get(id) ?? []);
    const isLaid = wanted.every((section, i) => this.#main?.children[i] === section);
    if (!isLaid || this.#main?.children.length !== wanted.length) this.#main?.replaceChildren(...wanted);
  }

  #data(): ReportData {
    const named = <T>(kind: string): T[] =>
      [...this.#parts].flatMap(([name, value]) => (name.startsWith(`${kind}:`) ? [value as T] : []));
    const marks = this.#parts.get('marks') as
      | Pick<ReportData, 'spikes' | 'rollbacks' | 'skipped'>
      | undefined;
    return {
      charts: named<ChartData>('chart'),
      layerMaps: named<LayerMapData>('map'),
      gateHistograms: this.#parts.get('gates') as GateHistogramData | undefined,
      load: this.#parts.get('load') as LoadData | undefined,
      ...(marks ?? { spikes: [], rollbacks: [], skipped: [] }),
    };
  }
}

/** The server thins what is left of the steps less. */
export function showRange(range: StepRange | undefined): void {
  choosePlace(
    range ? { from: String(range.from), to: String(range.to) } : { from: undefined, to: undefined },
    true,
  );
}
