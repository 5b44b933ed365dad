/** Messages between the coordinator and the workers: msgpack frames [version, kind, body], bounded in size. */

import { ERROR_TABLE, isOutOfMemory, SluiceError } from '@sluice/core';
import { Packr } from 'msgpackr';
import { PROTOCOL_VERSION } from './wire.ts';
import type { WorkerState } from './workerState.ts';

/** Largest control message, bytes: a checkpoint's description of its shards is the longest. */
export const MAX_CONTROL_BYTES = 64 << 20;

export const HEARTBEAT_MS = 1000;

/** Kinds of waiting, each with its own limit. */
export type WaitKind = 'start' | 'firstStep' | 'step' | 'save' | 'evaluation' | 'stop';

/** Limits unless said otherwise, ms. */
export const DEFAULT_LIMITS_MS: Readonly<Record<WaitKind, number>> = {
  start: 120_000,
  firstStep: 600_000,
  step: 300_000,
  save: 600_000,
  evaluation: 600_000,
  stop: 30_000,
};

/** An error on its way between processes. */
export interface ErrorData {
  readonly code: SluiceError['code'];
  readonly message: string;
  readonly details: Record<string, unknown>;
}

/** What workers say. */
export interface WorkerMessages {
  hello: {
    token: string;
    rank: number;
    host: string;
    pid: number;
    endpoint: string;
    /** Where workers of its host reach it, if not by what leads there from all hosts. */
    near?: string;
  };
  /** Connected to all other workers; calls may come. */
  ready: Record<string, never>;
  /** Not connected to some other workers, and not about to be. */
  apart: { ranks: number[] };
  beat: { activity: string };
  /** The answer to `describe`. */
  state: { state: WorkerState };
  result: { id: number; value: unknown };
  failure: { id: number; error: ErrorData };
  goodbye: { reason: string };
}

/** What the coordinator says. */
export interface CoordinatorMessages {
  refused: { error: ErrorData };
  /** Where the worker that it is said to reaches each rank. */
  world: { endpoints: string[] };
  beat: Record<string, never>;
  call: { id: number; method: string; request: unknown };
  /** Asks what the worker is doing. */
  describe: Record<string, never>;
  lost: { rank: number; error: ErrorData };
}

export type Message<T> = { [K in keyof T]: { kind: K; body: T[K] } }[keyof T];

type Check = (body: Readonly<Record<string, unknown>>) => boolean;

const isNumber = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown) => typeof value === 'string';

function isError(value: unknown): boolean {
  const { code, message, details } = (value ?? {}) as Record<string, unknown>;
  return (
    isText(code) &&
    Object.hasOwn(ERROR_TABLE, code as string) &&
    isText(message) &&
    typeof details === 'object'
  );
}

/** What each kind of message must hold. A peer with the key may still be broken, or of another time. */
const WORKER_CHECKS: Readonly<Record<keyof WorkerMessages, Check>> = {
  hello: ({ token, rank, host, pid, endpoint, near }) =>
    isText(token) &&
    isNumber(rank) &&
    isText(host) &&
    isNumber(pid) &&
    isText(endpoint) &&
    (near === undefined || isText(near)),
  ready: () => true,
  apart: ({ ranks }) => Array.isArray(ranks) && ranks.every(isNumber),
  beat: ({ activity }) => isText(activity),
  state: ({ state }) => typeof state === 'object' && state !== null,
  result: ({ id }) => isNumber(id),
  failure: ({ id, error }) => isNumber(id) && isError(error),
  goodbye: ({ reason }) => isText(reason),
};

const COORDINATOR_CHECKS: Readonly<Record<keyof CoordinatorMessages, Check>> = {
  refused: ({ error }) => isError(error),
  world: ({ endpoints }) => Array.isArray(endpoints) && endpoints.every(isText),
  beat: () => true,
  call: ({ id, method }) => isNumber(id) && isText(method),
  describe: () => true,
  lost: ({ rank, error }) => isNumber(rank) && isError(error),
};

const packr = new Packr({ useRecords: false });

export function encodeMessage<T, K extends keyof T & string>(kind: K, body: T[K]): Buffer {
  return packr.pack([PROTOCOL_VERSION, kind, body]);
}

/**
 * @returns undefined for what is not a message at all
 * @throws SLUICE_E_PROTOCOL_VERSION for a message of another version
 */
export function decodeMessage<T>(frame: Buffer): Message<T> | undefined {
  let message: unknown;
  try {
    message = packr.unpack(frame);
  } catch {
    return undefined;
  }
  if (!Array.isArray(message) || message.length !== 3) return undefined;
  const [version, kind, body] = message;
  if (version !== PROTOCOL_VERSION) throw versionMismatch(version);
  if (typeof kind !== 'string' || typeof body !== 'object' || body === null) return undefined;
  return { kind, body } as Message<T>;
}

/** As `decodeMessage`, of what workers say; undefined for what is none of it. */
export function decodeFromWorker(frame: Buffer): Message<WorkerMessages> | undefined {
  return checked(WORKER_CHECKS, decodeMessage<WorkerMessages>(frame));
}

/** As `decodeMessage`, of what the coordinator says; undefined for what is none of it. */
export function decodeFromCoordinator(frame: Buffer): Message<CoordinatorMessages> | undefined {
  return checked(COORDINATOR_CHECKS, decodeMessage<CoordinatorMessages>(frame));
}

function checked<M extends { readonly kind: string; readonly body: unknown }>(
  checks: Readonly<Record<string, Check>>,
  message: M | undefined,
): M | undefined {
  if (message === undefined || !Object.hasOwn(checks, message.kind)) return undefined;
  return checks[message.kind]!(message.body as Readonly<Record<string, unknown>>) ? message : undefined;
}

function versionMismatch(version: unknown): SluiceError {
  return new SluiceError(
    'SLUICE_E_PROTOCOL_VERSION',
    `The other process speaks version ${String(version)} of the protocol, this one version ${PROTOCOL_VERSION}.`,
    { details: { theirs: version, ours: PROTOCOL_VERSION } },
  );
}

/** Any thrown value as data; what has no code becomes SLUICE_E_OUT_OF_MEMORY or SLUICE_E_WORKER_FAILED, with its stack. */
export function errorToData(error: unknown, where: string): ErrorData {
  if (error instanceof SluiceError) {
    return { code: error.code, message: error.message, details: { ...error.details } };
  }
  const text = error instanceof Error ? error.message : String(error);
  const stack = error instanceof Error ? error.stack : undefined;
  const code = isOutOfMemory(error) ? 'SLUICE_E_OUT_OF_MEMORY' : 'SLUICE_E_WORKER_FAILED';
  return { code, message: `${where}: ${text}`, details: { stack } };
}

export function errorFromData(data: ErrorData): SluiceError {
  return new SluiceError(data.code, data.message, { details: data.details });
}
