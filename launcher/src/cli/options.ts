/** Flags that several commands share, and the checks of their values; what these throw becomes a usage error. */

import { MOST_THREADS, shippedFile } from '@sluice/core';
import type { BackendName, Precision } from '@sluice/engine';

/** The value of a flag or argument that names a configuration, a model or a recipe. */
export function configFile(value: unknown): unknown {
  return typeof value === 'string' ? shippedFile(value) : value;
}

/** A whole number of at least `minimum` and at most `maximum`. */
export function wholeNumber(
  flag: string,
  minimum: number,
  maximum = Number.MAX_SAFE_INTEGER,
): (value: unknown) => number | undefined {
  return (value) => {
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= minimum && value <= maximum)
      return value;
    const limit = maximum === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${maximum}`;
    const shown = Array.isArray(value) ? value.join(' and ') : String(value);
    throw new Error(`--${flag} is ${shown}, not a whole number of at least ${minimum}${limit}.`);
  };
}

/** Whole numbers from 0, with commas between. */
export function wholeNumbers(flag: string): (value: unknown) => number[] | undefined {
  return (value) => {
    if (value === undefined) return undefined;
    const parts = String(value).split(',');
    if (parts.every((part) => /^\d{1,9}$/.test(part))) return parts.map(Number);
    throw new Error(`--${flag} is ${String(value)}, not whole numbers with commas between, as in 0,3.`);
  };
}

/** A number of at least `minimum` and at most `maximum`. */
export function atLeast(
  flag: string,
  minimum: number,
  maximum = Number.MAX_VALUE,
): (value: unknown) => number | undefined {
  return (value) => {
    if (value === undefined) return undefined;
    if (typeof value === 'number' && value >= minimum && value <= maximum) return value;
    const limit = maximum === Number.MAX_VALUE ? '' : ` and at most ${maximum}`;
    throw new Error(`--${flag} is ${String(value)}, not a number of at least ${minimum}${limit}.`);
  };
}

/** A number above `limit`. */
export function above(flag: string, limit: number): (value: unknown) => number | undefined {
  return (value) => {
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isFinite(value) && value > limit) return value;
    throw new Error(`--${flag} is ${String(value)}, not a number above ${limit}.`);
  };
}

/** Those of the engine, which is not loaded to read a command line. */
const BACKEND_CHOICES = [
  'native',
  'cuda',
  'tensorflow',
  'webgpu',
  'wasm',
  'cpu',
] as const satisfies readonly BackendName[];

/** Of commands that train. */
export const BACKEND_OPTION = {
  type: 'string',
  choices: BACKEND_CHOICES,
  requiresArg: true,
  describe: 'TensorFlow.js backend, if it is not what the configuration says; see sluice backend list.',
} as const;

export const PRECISION_OPTION = {
  type: 'string',
  choices: ['bf16', 'f32'],
  requiresArg: true,
  describe:
    'Of activations and of weights in products; the backend’s own when left out: bf16 on cuda, else f32.',
} as const;

export const SET_OPTION = {
  type: 'string',
  array: true,
  requiresArg: true,
  describe: 'Change a key of the configuration: section.key=value. May be repeated.',
} as const;

/** The same of commands that take a model alone as well. */
export const MODEL_SET_OPTION = {
  ...SET_OPTION,
  describe:
    'Change a key of the configuration: section.key=value; of a model alone as well: model.key=value. May be repeated.',
} as const;

export const WORKERS_OPTION = {
  type: 'number',
  requiresArg: true,
  coerce: wholeNumber('workers', 1),
  describe: 'Worker processes: a power of two. Changes no bit of the result.',
} as const;

export const EXPERT_PARALLEL_OPTION = {
  type: 'number',
  requiresArg: true,
  coerce: wholeNumber('expert-parallel', 1),
  describe: 'Workers that share one set of experts. Changes no bit of the result.',
} as const;

export const WORKER_THREADS_OPTION = {
  type: 'number',
  requiresArg: true,
  coerce: wholeNumber('threads', 0, MOST_THREADS),
  describe: 'Threads of each worker; 0 shares each host’s cores out. Changes no bit of the result.',
} as const;

export const SCALE_OPTION = {
  type: 'string',
  requiresArg: true,
  choices: ['full', 'small', 'tiny'],
  describe: 'Size of the model, ratios kept: small and tiny fit a laptop.',
} as const;

/** Where a call stops before the run is done. */
export const STOP_OPTIONS = {
  'until-step': {
    type: 'number',
    requiresArg: true,
    conflicts: 'more-steps',
    coerce: wholeNumber('until-step', 1),
    describe:
      'Stop, with a checkpoint, after this step of the run. The schedule stays that of the whole run.',
  },
  'more-steps': {
    type: 'number',
    requiresArg: true,
    coerce: wholeNumber('more-steps', 1),
    describe:
      'Stop, with a checkpoint, after so many steps of this call. The schedule stays that of the whole run.',
  },
} as const;

/** What computes where a command takes a trained model. */
export const INFERENCE_OPTIONS = {
  backend: {
    ...BACKEND_OPTION,
    describe:
      'TensorFlow.js backend, whatever the model was trained on; native when left out; see sluice backend list.',
  },
  precision: PRECISION_OPTION,
} as const;

/** What `INFERENCE_OPTIONS` are read as. */
export interface InferenceArguments {
  readonly backend?: BackendName;
  readonly precision?: Precision;
}

/** `--set` of commands that take a trained model: what has no weights of its own may change. */
export const ROPE_SET_OPTION = {
  ...SET_OPTION,
  describe: 'Change the rotary embedding: model.ropeTheta=… or model.ropeScaling.…=…. May be repeated.',
} as const;

/** What a trained model is scored or measured on: a split of a prepared corpus, or a text. */
export const SCORED_TEXT_OPTIONS = {
  split: {
    type: 'string',
    choices: ['validation', 'train'],
    default: 'validation',
    requiresArg: true,
    describe: 'Part of the prepared corpus.',
  },
  text: {
    type: 'string',
    requiresArg: true,
    describe: 'File of plain text to take in place of a corpus, through the model’s tokenizer.',
  },
  data: {
    type: 'string',
    requiresArg: true,
    conflicts: 'text',
    describe: 'Directory of a prepared corpus; that of the run by default.',
  },
} as const;

/** What `SCORED_TEXT_OPTIONS` are read as. */
export interface ScoredTextArguments {
  readonly split: 'train' | 'validation';
  readonly text?: string;
  readonly data?: string;
}

/** What names hosts (`namedHosts`); each command says what it does with them. */
export const HOSTS_OPTION = { type: 'string', requiresArg: true } as const;

/** The same where a run is named: its own hosts where nothing follows the flag. */
export const RUN_HOSTS_OPTION = { type: 'string', implies: 'run' } as const;

export const TOKEN_OPTION = { type: 'string', requiresArg: true, conflicts: ['run', 'hosts'] } as const;

export const COLLECT_OPTION = {
  type: 'boolean',
  describe:
    'For hosts that do not see the run’s directory: checkpoints, and a corpus that they lack, go through the coordinator.',
} as const;

export const SSH_COMMAND_OPTION = {
  type: 'string',
  requiresArg: true,
  describe: 'Program and first words in place of ssh, as in "ssh -F config".',
} as const;

/** Where Prometheus finds the metrics of a process. */
export const METRICS_PORT_OPTION = {
  type: 'number',
  requiresArg: true,
  coerce: wholeNumber('metrics-port', 0, 65_535),
  describe:
    'Serve metrics for Prometheus at this port of this machine, 0 for a free one; sets observe.metricsPort.',
} as const;

/** Address of these metrics. */
export const METRICS_HOST_OPTION = {
  type: 'string',
  requiresArg: true,
  implies: 'metrics-port',
  describe: 'Address to serve them at; this machine alone when left out.',
} as const;

/** Flags of commands that train. */
export const BESIDE_OPTIONS = {
  watch: {
    type: 'boolean',
    describe: 'Show the run on a live page beside, as sluice watch does, until it ends.',
  },
  'watch-port': {
    type: 'number',
    requiresArg: true,
    implies: 'watch',
    coerce: wholeNumber('watch-port', 0, 65_535),
    describe: 'Port of that page, 0 for a free one; 7007, or a free one, when left out.',
  },
} as const;
