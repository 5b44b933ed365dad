/** A file of TensorBoard's events: records with checksums, appended in one write each. */

import { closeSync, openSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { appendWhole, makeDirectories, writeError } from '@sluice/core';
import { frameRecord } from '../curves/tfRecord.ts';
import { type EventContent, eventMessage } from './messages.ts';

export class EventFile {
  readonly path: string;
  #file: number;

  /**
   * @param folder gets the file; TensorBoard reads the files of a folder one after another, by their names
   * @param seconds when it begins, since 1970
   * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
   */
  constructor(folder: string, seconds: number) {
    const begun = String(Math.floor(seconds)).padStart(10, '0');
    this.path = join(folder, `events.out.tfevents.${begun}.${hostname()}.${process.pid}.sluice`);
    makeDirectories(folder);
    try {
      this.#file = openSync(this.path, 'a');
    } catch (error) {
      throw writeError(this.path, error);
    }
    this.append(seconds, 0, { fileVersion: 'brain.Event:2' });
  }

  /** @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL */
  append(seconds: number, step: number, content: EventContent): void {
    appendWhole(this.#file, this.path, frameRecord(eventMessage(seconds, step, content)));
  }

  close(): void {
    if (this.#file < 0) return;
    closeSync(this.#file);
    this.#file = -1;
  }
}
