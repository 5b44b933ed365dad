/**
 * A save beside training: the state is copied to memory, where the steps that follow do not change it, and written from there by
 * a thread of its own. There is one such copy, as large as this worker's part of a checkpoint, which every save uses anew.
 */

import { type Piece, type ShardRecord, ShardWriter } from '@sluice/checkpoint';
import { sharedFloat32 } from '@sluice/collectives';
import { invariant, makeDirectories, SluiceError } from '@sluice/core';
import { copyInto } from '@sluice/engine/memory';
import type { WrittenResult } from './protocol.ts';

export class StagedSave {
  readonly #writer = new ShardWriter();
  #staged: readonly Piece[] = [];
  #outcome: WrittenResult = {};
  #isWriting = false;

  /** @param pieces of mostly the same sizes as the time before, in the same order, whose memory is used anew */
  stage(pieces: readonly Piece[]): void {
    invariant(!this.#isWriting, 'a state is staged over one that is being written');
    const memory = this.#staged.map(({ values }) => values);
    this.#staged = pieces.map(({ tensor: { name, shape }, kind, begin, end, values }, i) => {
      const last = memory[i];
      const copy = last?.length === values.length ? last : sharedFloat32(values.length);
      copyInto(copy, values);
      return { tensor: { name, shape }, kind, begin, end, values: copy };
    });
  }

  /** Begins to write what is staged; `written` tells what comes of it. */
  write(directory: string, rank: number, options: { writer?: string | undefined; makes: boolean }): void {
    invariant(!this.#isWriting, 'a staged state is written twice at once');
    this.#isWriting = true;
    this.#outcome = {};
    void this.#write(directory, rank, options)
      .then(
        (shard): WrittenResult => ({ shard }),
        (error: Error): WrittenResult => ({ failure: failureOf(error) }),
      )
      .then((outcome) => {
        this.#outcome = outcome;
        this.#isWriting = false;
      });
  }

  /** What has come of it; neither shard nor failure while it goes on. */
  get written(): WrittenResult {
    return this.#outcome;
  }

  async #write(
    directory: string,
    rank: number,
    { writer, makes }: { writer?: string | undefined; makes: boolean },
  ): Promise<ShardRecord> {
    if (makes) makeDirectories(directory);
    return this.#writer.write({ directory, rank, pieces: this.#staged, writer });
  }
}

function failureOf(error: Error): NonNullable<WrittenResult['failure']> {
  const { message } = error;
  return { code: error instanceof SluiceError ? error.code : 'SLUICE_E_WORKER_FAILED', message };
}
