/** Names out of configurations that become folders: of runs, corpora, rows of experiments. */

import { z } from 'zod';

/** What the name of one folder looks like wherever folders are: no path, nothing hidden, nothing that a shell or a disk minds. */
const PLAIN = /^[\p{L}\p{N}_](?:[\p{L}\p{N}_ .,+=@-]*[\p{L}\p{N}_+=@-])?$/u;

/** Devices on Windows, with whatever ending. */
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;

/** A file system takes 255 bytes, and names get endings. */
const MOST_BYTES = 200;

/** Why a text cannot be the name of a folder; undefined where it can. */
export function folderNameFault(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (/[/\\]/.test(name) || /^\.+$/.test(name)) return 'is a path, not the name of a folder';
  if (RESERVED.test(name)) return 'is the name of a device on Windows';
  if (Buffer.byteLength(name) > MOST_BYTES) return `is longer than ${MOST_BYTES} bytes`;
  if (PLAIN.test(name)) return undefined;
  return 'may hold letters, digits, spaces and _ . , + = @ - only, the first a letter, a digit or _, the last no space or dot';
}

/** A text that is the name of one folder. */
export function folderName() {
  return z.string().check((context) => {
    const fault = folderNameFault(context.value);
    if (fault === undefined) return;
    const message = `${JSON.stringify(context.value)} ${fault}`;
    context.issues.push({ code: 'custom', input: context.value, message });
  });
}
