/** Diagnoses models one after the other, and puts what was found side by side. */

import { resolve } from 'node:path';
import { readTextFile, refuseUnwritable, SluiceError } from '@sluice/core';
import type { Computation } from '@sluice/engine';
import { type Diagnosis, type InferenceModel, spreadLayers } from '@sluice/evaluate';
import { attentionLayers, layerModels } from '@sluice/model';
import { type DiagnosedModel, meanOfGates, terminalTable, writeDiagnosisPage } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { type ModelRequest, withModel } from './inference.ts';
import { refuseMissing } from './missingPath.ts';

export interface DiagnoseModelsOptions extends Omit<ModelRequest, 'source'> {
  readonly split: 'train' | 'validation';
  /** File of text in place of a corpus. */
  readonly text?: string | undefined;
  /** Directory of a corpus in place of each run's. */
  readonly data?: string | undefined;
  readonly sequenceLength?: number | undefined;
  readonly sequences: number;
  /** Page to write. */
  readonly html?: string | undefined;
  /** Of the page's attention maps. */
  readonly layers?: readonly number[] | undefined;
  readonly heads?: readonly number[] | undefined;
}

/**
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_FILE_UNWRITABLE before anything is measured; SLUICE_E_USAGE for layers or heads that
 *   a model does not have; the errors of loading and of the corpus
 */
export async function diagnoseModels(
  sources: readonly string[],
  options: DiagnoseModelsOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  const text = options.text === undefined ? undefined : readTextFile(options.text);
  // Measuring a large model takes long: what can be seen to be missing is told before.
  for (const source of sources) refuseMissing(source);
  if (options.html !== undefined) refuseUnwritable(options.html);
  const { set, backend, precision } = options;
  const models: (DiagnosedModel & { readonly computedBy: Computation })[] = [];
  for (const source of sources) {
    const { result: diagnosis, computedBy } = await withModel(
      { source, set, backend, precision },
      log,
      (model) => {
        log(`measuring ${source}`);
        return model.diagnose({
          split: options.split,
          dataDirectory: options.data,
          text,
          sequenceLength: options.sequenceLength,
          sequences: options.sequences,
          ...(options.html !== undefined && { maps: chosenMaps(model, source, options) }),
        });
      },
    );
    models.push({ name: source, diagnosis, computedBy });
  }
  const html = options.html === undefined ? undefined : resolve(options.html);
  if (html !== undefined) await writeDiagnosisPage(html, models);
  const described = models.map(({ name, diagnosis: { maps, ...measured }, computedBy }) => ({
    source: name,
    ...measured,
    ...computedBy,
  }));
  const written = html === undefined ? {} : { html };
  return {
    json: described.length === 1 ? { ...described[0]!, ...written } : { models: described, ...written },
    text: [
      summaryTable(models),
      ...models.flatMap(closedGates),
      ...models.flatMap(withoutUpdate),
      ...(html === undefined ? [] : [`figures: ${html}`]),
    ].join('\n'),
  };
}

function chosenMaps({ decoder }: InferenceModel, source: string, { layers, heads }: DiagnoseModelsOptions) {
  const { numLayers } = decoder.config;
  refuseAbsent('layer', layers, numLayers, source);
  const having = attentionLayers(decoder.config);
  const without = layers?.find((layer) => !having.includes(layer));
  if (without !== undefined) {
    const which = having.length === 0 ? 'none of its layers has' : `the layers ${having.join(', ')} have`;
    throw new SluiceError('SLUICE_E_USAGE', `Layer ${without} of ${source} has no attention: ${which}.`);
  }
  const shown = layers ?? spreadLayers(having.length).map((index) => having[index]!);
  const models = layerModels(decoder.config);
  // Those that all of the layers have.
  const count = Math.min(...shown.map((layer) => models[layer]!.numAttentionHeads));
  refuseAbsent('head', heads, count, source);
  return { layers: shown, heads };
}

function refuseAbsent(
  what: string,
  chosen: readonly number[] | undefined,
  count: number,
  source: string,
): void {
  const absent = chosen?.find((index) => index >= count);
  if (absent === undefined) return;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `${source} has no ${what} ${absent}: its ${what}s are 0 to ${count - 1}.`,
  );
}

const LINES: readonly (readonly [
  label: string,
  value: (diagnosis: Diagnosis) => number | null | undefined,
])[] = [
  ['attention to the first token', (d) => d.firstTokenAttention],
  ['  with query 0', (d) => d.firstTokenAttentionWithFirst],
  ['massive activation', (d) => d.massiveActivation],
  ['  of feed-forward outputs', (d) => d.feedForwardActivation],
  ['gate score', (d) => d.gateScoreMean],
  ['  share below 0.05', (d) => meanOfGates(d.gates, 'belowTwentieth')],
  ['  share below 0.1', (d) => meanOfGates(d.gates, 'belowTenth')],
  ['  share above 0.9', (d) => meanOfGates(d.gates, 'aboveNineTenths')],
  ['  largest ‖W‖ of a head', (d) => meanOfGates(d.gates, 'largestWeightNorm')],
  ['mean |attention output|', (d) => d.attentionOutput?.before.meanAbsolute],
  ['  after the gate', (d) => d.attentionOutput?.after.meanAbsolute],
  ['|attention output| < 0.01', (d) => d.attentionOutput?.before.belowHundredth],
  ['  times the mean score', (d) => d.attentionOutput?.withMeanScore?.belowHundredth],
  ['  after the gate', (d) => d.attentionOutput?.after.belowHundredth],
  ['largest attention logit', (d) => d.largestAttentionLogit],
  ['attention entropy, nats', (d) => d.attentionEntropy],
  ['state kept by a token', (d) => d.recurrence?.keptMean],
  ['  less than a tenth', (d) => d.recurrence?.keptBelowTenth],
  ['  more than 99 %', (d) => d.recurrence?.keptAboveNinetyNine],
  ['β of delta rules', (d) => d.recurrence?.betaMean],
  ['last update / weights', (d) => d.updateRatio],
  ['expert imbalance', (d) => d.router?.maxViolation],
  ['dead experts', (d) => d.router?.deadExperts],
  ['router entropy, nats', (d) => d.router?.entropy],
  ['range of the balance bias', (d) => d.router?.biasRange],
];

function withoutUpdate({ name, diagnosis: { noUpdateRatio } }: DiagnosedModel): string[] {
  return noUpdateRatio === undefined ? [] : [`no size of an update of ${name}: ${noUpdateRatio}`];
}

/** Share of scores below 0.05 from which on a gate is called closed; of one that chooses it is far less. */
const CLOSED = 0.9;

/** The layers in which hardly anything passes a gate, as in a run of Marin whose gates grew without decay. */
function closedGates({ name, diagnosis: { layers } }: DiagnosedModel): string[] {
  return layers.flatMap(({ layer, gates }) =>
    gates.flatMap(({ name: gate, form, belowTwentieth: share = 0, largestWeightNorm }) =>
      form === 'multiplicative' && share > CLOSED
        ? [
            `${gate} of layer ${layer} of ${name} is closed: ${(100 * share).toFixed(1)} % of its scores are below 0.05, ` +
              `its weights are up to ${largestWeightNorm!.toPrecision(3)} a head (optimizer.gateWeightDecay holds them down)`,
          ]
        : [],
    ),
  );
}

function summaryTable(models: readonly DiagnosedModel[]): string {
  const rows = LINES.map(([label, value]) => ({
    label,
    values: models.map(({ diagnosis }) => value(diagnosis) ?? undefined),
  })).filter(({ values }) => values.some((value) => value !== undefined));
  const cells = rows.map(({ label, values }) => [
    label,
    ...values.map((value) => (value === undefined ? '' : String(Number(value.toPrecision(4))))),
  ]);
  return terminalTable(cells, {
    header: ['', ...models.map(({ name }) => name)],
    align: ['left', ...models.map(() => 'right' as const)],
  });
}
