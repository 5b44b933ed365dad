/** What a live page shows, as named parts: a page is sent those that are other than what it has. */

import type { ReportFacts } from '../report/facts.ts';
import { type CollectedRun, headerOf, sectionsOf } from '../report/sections.ts';

export type Parts = Readonly<Record<string, unknown>>;

/** The parts of a run's page; the script puts them together again (`page/liveRun.ts`). */
export function runParts(facts: ReportFacts, run: CollectedRun): Parts {
  const { data, diagnostics } = run;
  const sections = sectionsOf(facts, run);
  const named = <T extends { readonly id: string }>(kind: string, values: readonly T[]) =>
    Object.fromEntries(values.map((value) => [`${kind}:${value.id}`, value]));
  return {
    title: facts.title ?? 'Training run',
    header: headerOf(facts, run),
    layout: sections.map(({ id }) => id),
    ...Object.fromEntries(sections.map(({ id, html }) => [`section:${id}`, html])),
    ...named('chart', [...data.charts, ...diagnostics.charts]),
    ...named('map', diagnostics.layerMaps),
    gates: diagnostics.gateHistograms ?? null,
    load: data.load ?? null,
    marks: { spikes: data.spikes, rollbacks: data.rollbacks, skipped: data.skipped },
  };
}

/** Remembers what a page has. */
export class SentParts {
  readonly #sent = new Map<string, string>();

  /** Of the parts those that are other than before, as JSON; undefined where none is. Parts that are gone are null. */
  changes(parts: Parts): string | undefined {
    const changed: string[] = [];
    const put = (name: string, value: unknown) => {
      const text = JSON.stringify(value ?? null);
      if (this.#sent.get(name) === text) return;
      this.#sent.set(name, text);
      changed.push(`${JSON.stringify(name)}:${text}`);
    };
    for (const [name, value] of Object.entries(parts)) put(name, value);
    for (const name of this.#sent.keys()) if (!(name in parts)) put(name, null);
    return changed.length === 0 ? undefined : `{${changed.join(',')}}`;
  }
}
