/** The spike detector over a curve that was recorded, by Sluice or by another trainer. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { refuseUnwritable, writeOutputFile } from '@sluice/core';
import {
  counted,
  curvePicture,
  formatDeviations,
  formatLoss,
  formatNumber,
  groupDigits,
  type RecordedCurve,
  readCurve,
  supersededSteps,
  terminalTable,
  type WantedNames,
} from '@sluice/observe';
import {
  episodesOf,
  type RunConfig,
  relativeUpdate,
  SpikeDetector,
  type SpikeEpisode,
  type SpikeEvent,
  SpikesConfig,
} from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { describeFirstMove, spanText } from './episodeText.ts';
import { percentLogger } from './percentLogger.ts';
import { loadRunConfig } from './runConfig.ts';
import { type RunDirectory, runDirectory } from './runDirectory.ts';

/** Episodes that are shown to people; JSON has all. */
const SHOWN_EPISODES = 40;

type DetectorSettings = Pick<
  RunConfig['spikes'],
  'window' | 'warmupSteps' | 'threshold' | 'minimumExcess' | 'minimumRatio'
>;

export interface ExamineOptions {
  /** Columns or tags to take. */
  readonly names: WantedNames;
  /** In place of a run's own, or of the defaults. */
  readonly settings: { readonly [Name in keyof DetectorSettings]?: number | undefined };
  /** File that gets a picture. */
  readonly svg?: string | undefined;
}

/**
 * @param path what `readCurve` reads, or a run
 * @throws the coded errors of `readCurve`, of the run's configuration, and of writing the picture
 */
export async function examineCurve(
  path: string,
  { names, settings, svg }: ExamineOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  if (svg !== undefined) refuseUnwritable(svg);
  const run = runAt(path);
  const own = run ? loadRunConfig(run.config, {}).spikes : SpikesConfig.parse({});
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const config = SpikesConfig.parse({ ...own, policy: 'report', ...Object.fromEntries(given) });
  const detector = new SpikeDetector(config);
  const outliers: SpikeEvent[] = [];
  const [steps, losses]: [number[], number[]] = [[], []];
  const curve = await readCurve(run?.metrics ?? path, names, {
    onPoint: ({ lastUpdate, ...point }) => {
      steps.push(point.step);
      if (svg !== undefined) losses.push(point.loss);
      const update = lastUpdate && relativeUpdate(lastUpdate, lastUpdate.learningRate);
      const event = detector.observe({ ...point, lastUpdate: update });
      if (event) outliers.push(event);
    },
    onProgress: percentLogger('reading the curve', log),
  });
  curve.remarks.forEach(log);
  if (run) sayWhatWasGivenUp(run, log);
  if (steps.length <= config.warmupSteps) {
    log(
      `nothing is judged: the first ${config.warmupSteps} points are history (--warmup-steps), and there are no more`,
    );
  }
  const episodes = episodesOf(outliers);
  const { lossName, normName } = curve;
  if (svg !== undefined) await writeOutputFile(svg, [curvePicture({ steps, losses, lossName }, episodes)]);
  const judged = { points: steps.length, firstStep: steps[0]!, lastStep: steps.at(-1)! };
  const { window, warmupSteps, threshold, minimumExcess, minimumRatio } = config;
  return {
    json: {
      ...{ episodes, outliers, ...judged, loss: lossName, gradientNorm: normName },
      settings: { window, warmupSteps, threshold, minimumExcess, minimumRatio },
      ...(svg !== undefined && { svg }),
    },
    text: [...tableOf(episodes), summaryOf(curve, judged, outliers, episodes)].join('\n'),
  };
}

function runAt(path: string): RunDirectory | undefined {
  const isRun = existsSync(join(path, 'config.yaml')) && existsSync(join(path, 'journal.jsonl'));
  return isRun ? runDirectory(path) : undefined;
}

/** The steps of a run are those that it rests on: a spike that it went back for is not among them. */
function sayWhatWasGivenUp({ path }: RunDirectory, log: (line: string) => void): void {
  const superseded = supersededSteps(path);
  if (superseded.length === 0) return;
  const files = superseded.map(({ file, first, last }) => `${spanText(first, last)} (${file})`);
  log(
    `taken again, and not looked at as they were first: ${files.join(', ')}; \`sluice inspect\` lists their spikes`,
  );
}

function tableOf(episodes: readonly SpikeEpisode[]): string[] {
  if (episodes.length === 0) return [];
  const worst = new Set(episodes.toSorted((a, b) => b.score - a.score).slice(0, SHOWN_EPISODES));
  const rows = episodes
    .filter((episode) => worst.has(episode))
    .map(({ start, end, peak, signal, value, median, excess, score, points, first }) => [
      spanText(start, end),
      groupDigits(peak),
      ...(signal === 'loss'
        ? ['loss', formatLoss(value), formatLoss(median), formatLoss(excess)]
        : ['gradient norm', formatNumber(value), formatNumber(median), formatNumber(excess)]),
      ...[formatDeviations(score), String(points), describeFirstMove(first, start)],
    ]);
  const header = [
    'steps',
    'peak',
    'signal',
    'value',
    'median',
    'excess',
    'deviations',
    'points',
    'moved first',
  ];
  const right = 'right' as const;
  const align = ['left', right, 'left', right, right, right, right, right, 'left'] as const;
  const isCut = worst.size < episodes.length;
  const note = `the ${SHOWN_EPISODES} that stand out most of ${groupDigits(episodes.length)}; --json has all`;
  return [terminalTable(rows, { header, align }), ...(isCut ? [note] : []), ''];
}

function summaryOf(
  { lossName, normName }: RecordedCurve,
  { points, firstStep, lastStep }: { points: number; firstStep: number; lastStep: number },
  outliers: readonly SpikeEvent[],
  episodes: readonly SpikeEpisode[],
): string {
  const judged = normName === null ? lossName : `${lossName} and ${normName}`;
  const of = `${counted(points, 'point')} of ${judged}, steps ${groupDigits(firstStep)} to ${groupDigits(lastStep)}`;
  if (episodes.length === 0) return `no spike in ${of}`;
  const losses = episodes.filter(({ signal }) => signal === 'loss');
  const worst = losses.reduce<SpikeEpisode | undefined>(
    (most, episode) =>
      most && !(episode.excess > most.excess) && Number.isFinite(episode.excess) ? most : episode,
    undefined,
  );
  const highest = worst
    ? `; the highest at step ${groupDigits(worst.peak)}, ${formatLoss(worst.excess)} nats above the median`
    : '';
  return `${counted(episodes.length, 'episode')} of ${counted(outliers.length, 'outlying point')} in ${of}${highest}`;
}
