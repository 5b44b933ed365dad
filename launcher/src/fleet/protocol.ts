/**
 * Messages between agents and the coordinator: msgpack frames with a version, bounded in size, each checked against its schema
 * before anything is done with it. What a broken connection loses is put right by the next heartbeat: the coordinator's names
 * the workers that are to run, the agent's those that do.
 */

import { decodeMessage, encodeMessage, type Message } from '@sluice/collectives/control';
import { ERROR_TABLE, type ErrorCode } from '@sluice/core';
import { z } from 'zod';
import { Incarnation } from '../run/incarnation.ts';

/** Between two heartbeats, ms. */
export const BEAT_MS = 2000;

/** Heartbeats that may be missing before a peer counts as lost. */
export const BEATS_UNTIL_LOST = 7;

/** Largest message, bytes: an invitation, or a few hundred lines of output. */
export const MAX_FLEET_BYTES = 1 << 20;

const text = z.string().max(4096);
const name = z.string().regex(/^[\w.:-]{1,253}$/);
const count = z.int().min(0);
/** Where files of a host lie that its agent hands out and takes: what is meant by it is the agent's affair. */
const FILE_PLACES = ['memory', 'collected', 'data'] as const;
export type FilePlace = (typeof FILE_PLACES)[number];
const place = z.enum(FILE_PLACES);
/** Never leads out of its place. */
const path = z.string().regex(/^(?!\.\.?(\/|$))[^/\0]{1,250}(\/(?!\.\.?(\/|$))[^/\0]{1,250}){0,3}$/);
const folder = z.string().regex(/^(?!\.\.?$)[^/\0]{1,250}$/);
const hash = z.string().regex(/^[0-9a-f]{64}$/);
/** Bytes of a file that one message carries. */
export const PIECE_BYTES = 256 << 10;
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length <= PIECE_BYTES);
const error = z.strictObject({
  code: z.custom<ErrorCode>((code) => typeof code === 'string' && code in ERROR_TABLE),
  message: z.string().max(1 << 16),
  details: z.record(z.string(), z.unknown()),
});

/** What must be the same on all hosts of a run. */
export const Build = z.strictObject({
  sluice: text,
  /** Hash of the program's files. */
  content: text,
  /** Name of the arithmetic, and with it of the bits. */
  arithmetic: text,
  node: text,
});
export type Build = z.infer<typeof Build>;

const AGENT_MESSAGES = {
  join: z.strictObject({
    node: name,
    incarnation: Incarnation,
    /** Tells this process from all others. */
    session: name,
    /** Of the machine, whatever it is called. */
    machine: text,
    pid: count,
    /** Place among the nodes, where a scheduler gave one. */
    nodeRank: count.optional(),
    /** Number by which other hosts reach its workers. */
    address: name,
    slots: count.optional(),
    cores: z.number().positive(),
    memoryBytes: count,
    devices: z.array(z.strictObject({ name: text, memoryBytes: count.optional() })).max(1024),
    build: Build,
  }),
  beat: z.strictObject({
    /** Last message of the coordinator that was acted on. */
    heard: count,
    /** Workers that run. */
    workers: z.array(z.strictObject({ id: name, pid: count })).max(4096),
  }),
  output: z.strictObject({ id: name, line: z.string().max(1 << 16) }),
  ended: z.strictObject({
    id: name,
    how: text,
    exitCode: z.int().nullable(),
    signal: text.nullable(),
  }),
  /** Somebody asked this agent to end: the run is to be saved. */
  stop: z.strictObject({ reason: text }),
  left: z.strictObject({ reason: text }),
  /** What came of a request about files. */
  files: z.strictObject({
    ask: count,
    list: z
      .array(z.strictObject({ path, size: count }))
      .max(4096)
      .optional(),
    bytes: bytes.optional(),
    /** Of a corpus. */
    isThere: z.boolean().optional(),
    error: error.optional(),
  }),
  /** Not an agent: somebody asks about the run, or wants it to stop. */
  ask: z.strictObject({ what: z.enum(['ps', 'stop']) }),
} as const;

const COORDINATOR_MESSAGES = {
  welcome: z.strictObject({}),
  refused: z.strictObject({ error }),
  /** To an agent that this coordinator, which may be a new one, has not let in. */
  unknown: z.strictObject({}),
  beat: z.strictObject({
    /** Number of this message. */
    number: count,
    /** Workers that are to run; all others are to end. */
    workers: z.array(name).max(4096),
  }),
  start: z.strictObject({
    number: count,
    id: name,
    rank: count,
    invitation: z.record(z.string(), z.unknown()),
    environment: z.record(z.string().max(256), z.string().max(1 << 16)),
  }),
  kill: z.strictObject({ number: count, id: name }),
  end: z.strictObject({ code: z.int().min(0).max(255), reason: text }),
  files: z.discriminatedUnion('act', [
    z.strictObject({ act: z.literal('list'), ask: count, place }),
    z.strictObject({
      ...{ act: z.literal('read'), ask: count, place, path, offset: count },
      length: count.max(PIECE_BYTES),
    }),
    /** Makes an empty file; one of the name goes. */
    z.strictObject({ act: z.literal('create'), ask: count, place, path }),
    z.strictObject({ act: z.literal('write'), ask: count, place, path, offset: count, bytes }),
    /** With all that is in it. */
    z.strictObject({ act: z.literal('remove'), ask: count, place, path }),
    /** Has the workers read a prepared corpus of the host. */
    z.strictObject({ act: z.literal('link'), ask: count, corpus: hash }),
    /** The same for one whose files were written into the folder `brought` of the host's corpora, which gets its name. */
    z.strictObject({ act: z.literal('adopt'), ask: count, corpus: hash, brought: folder, name: folder }),
  ]),
  told: z.strictObject({ answer: z.record(z.string(), z.unknown()) }),
} as const;

type Bodies<Schemas extends Record<string, z.ZodType>> = { [Kind in keyof Schemas]: z.infer<Schemas[Kind]> };
export type AgentMessages = Bodies<typeof AGENT_MESSAGES>;
export type CoordinatorMessages = Bodies<typeof COORDINATOR_MESSAGES>;
export type AgentFacts = AgentMessages['join'];

export function encodeFromAgent<Kind extends keyof AgentMessages>(
  kind: Kind,
  body: AgentMessages[Kind],
): Buffer {
  return encodeMessage<AgentMessages, Kind>(kind, body);
}

export function encodeFromCoordinator<Kind extends keyof CoordinatorMessages>(
  kind: Kind,
  body: CoordinatorMessages[Kind],
): Buffer {
  return encodeMessage<CoordinatorMessages, Kind>(kind, body);
}

/**
 * @returns undefined for what is no message of an agent
 * @throws SLUICE_E_PROTOCOL_VERSION
 */
export function decodeFromAgent(frame: Buffer): Message<AgentMessages> | undefined {
  return checked(AGENT_MESSAGES, decodeMessage<AgentMessages>(frame));
}

/**
 * @returns undefined for what is no message of a coordinator
 * @throws SLUICE_E_PROTOCOL_VERSION
 */
export function decodeFromCoordinator(frame: Buffer): Message<CoordinatorMessages> | undefined {
  return checked(COORDINATOR_MESSAGES, decodeMessage<CoordinatorMessages>(frame));
}

function checked<M extends { readonly kind: string; readonly body: unknown }>(
  schemas: Readonly<Record<string, z.ZodType>>,
  message: M | undefined,
): M | undefined {
  if (message === undefined || !Object.hasOwn(schemas, message.kind)) return undefined;
  return schemas[message.kind]!.safeParse(message.body).success ? message : undefined;
}
