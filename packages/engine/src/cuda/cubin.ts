/**
 * What the machine code itself says: a cubin is an ELF file, with a section of code for each kernel, and one of attributes,
 * `.nv.info`, whose entries are a format, an attribute, a size, and then a symbol and its value.
 */

import { invariant } from '@sluice/core';

export interface CubinKernel {
  readonly name: string;
  /** Of each thread. */
  readonly registers: number;
  /** Bytes of local memory of each thread: what was spilled, and arrays that are indexed at run time. */
  readonly frameBytes: number;
  /** Bytes of machine code. */
  readonly codeBytes: number;
}

interface Section {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const ELF_MAGIC = 0x7f454c46;
/** Places in the header of an ELF file, in a section's header, and sizes. */
const HEADER = { sections: 40, sectionSize: 58, sectionCount: 60, names: 62, bytes: 64 };
const SECTION = { name: 0, offset: 24, bytes: 32 };
const SYMBOL_BYTES = 24;
/** Of `.nv.info`. */
const ENTRY_WITH_VALUE = 4;
const ATTRIBUTES = { frameBytes: 0x11, registers: 0x2f };

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function textAt(bytes: Uint8Array, begin: number): string {
  return Buffer.from(bytes.subarray(begin, bytes.indexOf(0, begin))).toString('latin1');
}

function sectionsOf(file: Uint8Array): Section[] {
  const view = viewOf(file);
  invariant(file.length > HEADER.bytes && view.getUint32(0) === ELF_MAGIC, 'a cubin is an ELF file');
  const first = Number(view.getBigUint64(HEADER.sections, true));
  const size = view.getUint16(HEADER.sectionSize, true);
  const bytesOf = (index: number) => {
    const at = first + index * size;
    const offset = Number(view.getBigUint64(at + SECTION.offset, true));
    return file.subarray(offset, offset + Number(view.getBigUint64(at + SECTION.bytes, true)));
  };
  const names = bytesOf(view.getUint16(HEADER.names, true));
  return Array.from({ length: view.getUint16(HEADER.sectionCount, true) }, (_, index) => ({
    name: textAt(names, view.getUint32(first + index * size + SECTION.name, true)),
    bytes: bytesOf(index),
  }));
}

/** The values of an attribute, by the name of their symbol. */
function attribute(sections: ReadonlyMap<string, Uint8Array>, wanted: number): Map<string, number> {
  const [info, symbols, names] = ['.nv.info', '.symtab', '.strtab'].map((name) => sections.get(name));
  invariant(info && symbols && names, 'a cubin has attributes and symbols');
  const values = new Map<string, number>();
  const view = viewOf(info);
  for (let at = 0; at < info.length; ) {
    const hasValue = info[at] === ENTRY_WITH_VALUE;
    if (hasValue && info[at + 1] === wanted) {
      const symbol = view.getUint32(at + 4, true);
      values.set(
        textAt(names, viewOf(symbols).getUint32(symbol * SYMBOL_BYTES, true)),
        view.getUint32(at + 8, true),
      );
    }
    // Other entries hold their value in the place of the size.
    at += 4 + (hasValue ? view.getUint16(at + 2, true) : 0);
  }
  return values;
}

/** The kernels of a cubin, in the order of their sections. */
export function cubinKernels(cubin: Uint8Array): CubinKernel[] {
  const sections = sectionsOf(cubin);
  const byName = new Map(sections.map(({ name, bytes }) => [name, bytes]));
  const registers = attribute(byName, ATTRIBUTES.registers);
  const frames = attribute(byName, ATTRIBUTES.frameBytes);
  return sections.flatMap(({ name, bytes }) => {
    const kernel = /^\.text\.(\w+)$/.exec(name)?.[1];
    if (!kernel) return [];
    const [registersOfKernel, frameBytes] = [registers.get(kernel), frames.get(kernel)];
    invariant(
      registersOfKernel !== undefined && frameBytes !== undefined,
      `a cubin says what ${kernel} needs`,
    );
    return [{ name: kernel, registers: registersOfKernel, frameBytes, codeBytes: bytes.length }];
  });
}
