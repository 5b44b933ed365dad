/** The header frame of data messages between ranks: fixed width, little-endian, versioned. Payloads are raw frames. */

import { createHash } from 'node:crypto';
import { DATA_TYPES, type DataType } from './arrays.ts';

/** Raised whenever the header, the messages or the control protocol change their meaning. */
export const PROTOCOL_VERSION = 3;

export const HEADER_BYTES = 64;

const OPERATIONS = ['allReduce', 'reduceScatter', 'allGather', 'allToAll', 'broadcast', 'barrier'] as const;
export type OperationName = (typeof OPERATIONS)[number];

/**
 * `data`: bytes of a stream. `credit`: the receiver takes the stream up to byte `offset`.
 * `confirm`: the receiver has all of the stream, so the sender may change its memory.
 * `attach`, `release`: between transports, about the receiver's shared ring: the sender has opened it; a slot is free.
 * `memory`, `reads`: between transports: the sender's process, and where its mark lies; the sender can read the receiver's memory.
 */
const MESSAGE_KINDS = ['data', 'credit', 'confirm', 'attach', 'release', 'memory', 'reads'] as const;
export type MessageKind = (typeof MESSAGE_KINDS)[number];

/** What every message says: which stream of which operation it belongs to. */
export interface MessageHeader {
  readonly kind: MessageKind;
  readonly operation: OperationName;
  readonly dataType: DataType;
  /** 0, or 1 for the second half of an all-reduce. */
  readonly phase: number;
  /** Identifies the list of ranks. */
  readonly group: number;
  /** Counts the operations of the group. */
  readonly sequence: number;
  /** World rank of the sender. */
  readonly from: number;
  /** Byte offset in the stream. */
  readonly offset: number;
  /** Bytes of the whole stream, as this side sees it. */
  readonly total: number;
}

/** Where the payload of a message is, when it is not in the next frame. */
export interface HeaderPlacement {
  /** Bytes of payload outside the message; 0 when the payload (if any) is the next frame. */
  readonly placedBytes: number;
  /** Position of the payload in the sender's shared ring, or its address in the sender's memory. */
  readonly place: number;
  readonly isAddress?: boolean;
}

const MAGIC = 0x534c4300 | PROTOCOL_VERSION;

/** 32 bits that tell messages of one run from those of another that once used the same address. */
export function runTag(token: string): number {
  return createHash('sha256').update(token).digest().readUInt32LE(0);
}

/** Identifies a group of ranks, the same on every member. @param purpose tells groups of the same ranks apart */
export function groupId(ranks: readonly number[], purpose = ''): number {
  return createHash('sha256')
    .update(`${ranks.join(',')}${purpose && `/${purpose}`}`)
    .digest()
    .readUInt32LE(0);
}

export function encodeHeader(header: MessageHeader, tag: number, placement?: HeaderPlacement): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES);
  frame.writeUInt32LE(MAGIC, 0);
  frame.writeUInt32LE(tag, 4);
  frame[8] = MESSAGE_KINDS.indexOf(header.kind);
  frame[9] = OPERATIONS.indexOf(header.operation);
  frame[10] = DATA_TYPES.indexOf(header.dataType);
  frame[11] = header.phase;
  frame.writeUInt32LE(header.group, 12);
  frame.writeUInt32LE(header.from, 16);
  frame.writeUInt32LE(placement?.placedBytes ?? 0, 20);
  frame.writeDoubleLE(header.offset, 24);
  frame.writeDoubleLE(header.total, 32);
  frame.writeDoubleLE(placement?.place ?? 0, 40);
  // A run of weeks with experts on several hosts has more operations than 32 bits can count.
  frame.writeDoubleLE(header.sequence, 48);
  frame[56] = placement?.isAddress ? 1 : 0;
  return frame.fill(0, 57);
}

/** The header in `frame`, or undefined when it is not one of this run and version. */
export function decodeHeader(frame: Buffer, tag: number): (MessageHeader & HeaderPlacement) | undefined {
  if (frame.length !== HEADER_BYTES || frame.readUInt32LE(0) !== MAGIC || frame.readUInt32LE(4) !== tag) {
    return undefined;
  }
  const kind = MESSAGE_KINDS[frame[8]!];
  const operation = OPERATIONS[frame[9]!];
  const dataType = DATA_TYPES[frame[10]!];
  if (kind === undefined || operation === undefined || dataType === undefined) return undefined;
  return {
    kind,
    operation,
    dataType,
    phase: frame[11]!,
    group: frame.readUInt32LE(12),
    sequence: frame.readDoubleLE(48),
    from: frame.readUInt32LE(16),
    offset: frame.readDoubleLE(24),
    total: frame.readDoubleLE(32),
    place: frame.readDoubleLE(40),
    placedBytes: frame.readUInt32LE(20),
    isAddress: frame[56] === 1,
  };
}
