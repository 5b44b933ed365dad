/** Where the files of a run lie (design §5), and what tells a run directory from another. */

import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { folderNameFault, makeDirectories, SluiceError, unreadable, writeError } from '@sluice/core';
import { refuseMissing } from './missingPath.ts';

/** The paths of one run. */
export interface RunDirectory {
  readonly path: string;
  /** The resolved configuration, frozen when the run started; resuming writes it anew. */
  readonly config: string;
  readonly journal: string;
  readonly metrics: string;
  readonly diagnostics: string;
  /** Texts that the model wrote. */
  readonly samples: string;
  /** What workers did in single steps, where that was wanted. */
  readonly timelines: string;
  readonly lock: string;
  /** How the coordinator is reached while there is one. */
  readonly contact: string;
  readonly checkpoints: string;
  /** What workers print: a folder a start, a file a worker. */
  readonly logs: string;
  /** The run's own copy of its tokenizer's files. */
  readonly tokenizer: string;
  readonly report: string;
}

export function runDirectory(path: string): RunDirectory {
  const root = resolve(path);
  return {
    path: root,
    config: join(root, 'config.yaml'),
    journal: join(root, 'journal.jsonl'),
    metrics: join(root, 'metrics.jsonl'),
    diagnostics: join(root, 'diagnostics.jsonl'),
    samples: join(root, 'samples.jsonl'),
    timelines: join(root, 'timelines'),
    lock: join(root, 'lock'),
    contact: join(root, 'contact.json'),
    checkpoints: join(root, 'checkpoints'),
    logs: join(root, 'logs'),
    tokenizer: join(root, 'tokenizer'),
    report: join(root, 'report.html'),
  };
}

/** The name of a run: the configured one, or the configuration file's without its ending. */
export function runName(config: { readonly name?: string | undefined }, configFile: string): string {
  return config.name ?? basename(configFile).replace(/\.(ya?ml|json)$/, '');
}

/**
 * Where a new run goes that was given no directory: `runs/` and its name.
 * @throws SLUICE_E_USAGE where the configuration file has a name that no folder can have
 */
export function directoryForRun(config: { readonly name?: string | undefined }, configFile: string): string {
  const name = runName(config, configFile);
  const fault = folderNameFault(name);
  if (fault === undefined) return join('runs', name);
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `A run of ${configFile} would be called ${JSON.stringify(name)}, which ${fault}: give it a name in the configuration, or a --run-dir.`,
    { details: { config: configFile, name } },
  );
}

/** Whether `path` holds a run, begun or finished. */
function holdsRun(path: string): boolean {
  const run = runDirectory(path);
  return existsSync(run.config) || existsSync(run.journal);
}

/**
 * The paths of the run that `path` holds.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING
 */
export function existingRun(path: string): RunDirectory {
  const run = runDirectory(path);
  refuseMissing(run.path);
  try {
    statSync(run.config);
    return run;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Another user's, for instance.
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw unreadable(run.path, error);
    throw new SluiceError('SLUICE_E_RUN_MISSING', `${run.path} holds no run: it has no config.yaml.`, {
      details: { path: run.path },
    });
  }
}

/**
 * Makes the directory of a new run.
 * @throws SLUICE_E_RUN_EXISTS when it holds one; SLUICE_E_OUTPUT_EXISTS, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
 */
export function makeRunDirectory(path: string): RunDirectory {
  const run = runDirectory(path);
  refuseExistingRun(run.path);
  makeDirectories(run.checkpoints);
  try {
    accessSync(run.path, constants.W_OK);
  } catch (error) {
    throw writeError(run.path, error);
  }
  return run;
}

/** Whether a run is not to be seen any more where it was. A mount that has vanished leaves an empty directory where it was mounted. */
export function hasVanished(path: string): boolean {
  return !existsSync(runDirectory(path).config);
}

/**
 * A mount that has vanished holds what it held, and is not to be replaced by what is written in its place.
 * @throws SLUICE_E_FILE_MISSING
 */
export function refuseVanished({ path }: Pick<RunDirectory, 'path'>): void {
  if (!hasVanished(path)) return;
  throw new SluiceError('SLUICE_E_FILE_MISSING', `The run's directory ${path} is not there any more.`, {
    details: { path },
  });
}

/**
 * What may be there before a run: what one left that did not come to begin, what schedulers and volumes put there, and where a shell
 * sends the output.
 */
const BEFORE_A_RUN =
  /^(lock(\..*)?|checkpoints|tokenizer|slurm|launch\.yaml|cluster\.key|failure-\d+\.txt|lost\+found|\..*|.*\.(log|out|err))$/;

/**
 * @throws SLUICE_E_RUN_EXISTS when `path` holds a run; SLUICE_E_OUTPUT_EXISTS when it holds anything else, which a run would mix
 *   with its own; SLUICE_E_FILE_UNWRITABLE when it is no directory
 */
export function refuseExistingRun(path: string): void {
  const run = runDirectory(path);
  if (holdsRun(run.path)) {
    throw new SluiceError(
      'SLUICE_E_RUN_EXISTS',
      `${run.path} already holds a run. To go on with it: sluice resume ${shellQuote(path)}`,
      { details: { runDir: run.path, resume: `sluice resume ${shellQuote(path)}` } },
    );
  }
  if (existsSync(run.path) && !statSync(run.path).isDirectory()) {
    throw new SluiceError('SLUICE_E_FILE_UNWRITABLE', `${run.path} is a file, not a directory.`, {
      details: { path: run.path },
    });
  }
  const foreign =
    namesIn(run.path).find((name) => !BEFORE_A_RUN.test(name)) ??
    namesIn(run.checkpoints).map((name) => `checkpoints/${name}`)[0];
  if (foreign === undefined) return;
  throw new SluiceError(
    'SLUICE_E_OUTPUT_EXISTS',
    `${run.path} holds ${foreign}: a new run needs a directory of its own.`,
    { details: { runDir: run.path, holds: foreign } },
  );
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** `text` as one word of a shell command. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
