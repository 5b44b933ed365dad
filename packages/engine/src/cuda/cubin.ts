/**
 * What the machine code itself says: a cubin is an ELF file, with a section of code for each kernel, one of attributes, `.nv.info`, whose
 * entries are a format, an attribute, a size, and then a symbol and its value, and one of attributes of each kernel, without symbols.
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
  /** Of a block, at most. */
  readonly threads: number | undefined;
  readonly parameters: readonly CubinParameter[];
}

export interface CubinParameter {
  /** Where it lies among a launch's arguments. */
  readonly place: number;
  readonly bytes: number;
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
const ATTRIBUTES = { threads: 0x05, frameBytes: 0x11, parameter: 0x17, registers: 0x2f };
/** Of a parameter's value: its number, its place, and its size above other bits. */
const PARAMETER = { number: 4, place: 6, size: 8, sizeBits: 18 };

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

/** The values of an attribute, in their order. */
function valuesOf(info: Uint8Array, wanted: number): DataView[] {
  const view = viewOf(info);
  const values: DataView[] = [];
  for (let at = 0; at < info.length; ) {
    // Other entries hold their value in the place of the size.
    const bytes = info[at] === ENTRY_WITH_VALUE ? view.getUint16(at + 2, true) : 0;
    if (bytes > 0 && info[at + 1] === wanted) values.push(viewOf(info.subarray(at + 4, at + 4 + bytes)));
    at += 4 + bytes;
  }
  return values;
}

/** The values of an attribute, by the name of their symbol. */
function attribute(sections: ReadonlyMap<string, Uint8Array>, wanted: number): Map<string, number> {
  const [info, symbols, names] = ['.nv.info', '.symtab', '.strtab'].map((name) => sections.get(name));
  invariant(info && symbols && names, 'a cubin has attributes and symbols');
  return new Map(
    valuesOf(info, wanted).map((value) => [
      textAt(names, viewOf(symbols).getUint32(value.getUint32(0, true) * SYMBOL_BYTES, true)),
      value.getUint32(4, true),
    ]),
  );
}

/** In the order of the source. */
function parametersOf(info: Uint8Array): CubinParameter[] {
  const parameters: CubinParameter[] = [];
  for (const value of valuesOf(info, ATTRIBUTES.parameter)) {
    parameters[value.getUint16(PARAMETER.number, true)] = {
      place: value.getUint16(PARAMETER.place, true),
      bytes: value.getUint32(PARAMETER.size, true) >>> PARAMETER.sizeBits,
    };
  }
  return parameters;
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
    const own = byName.get(`.nv.info.${kernel}`);
    invariant(own, `a cubin says what ${kernel} takes`);
    return [
      {
        name: kernel,
        registers: registersOfKernel,
        frameBytes,
        codeBytes: bytes.length,
        threads: valuesOf(own, ATTRIBUTES.threads)[0]?.getUint32(0, true),
        parameters: parametersOf(own),
      },
    ];
  });
}
