/** Groups of processes that can all be stopped at one moment, unlike by signals: control groups of version 1 or 2. */

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const VERSION_1 = '/sys/fs/cgroup/freezer';
const VERSION_2 = '/sys/fs/cgroup';

export class Freezer {
  /** The folder of all groups. */
  static readonly root = existsSync(VERSION_1) ? VERSION_1 : VERSION_2;
  readonly #isVersion1 = Freezer.root === VERSION_1;
  readonly #folder: string;

  constructor(name: string) {
    this.#folder = join(Freezer.root, name);
    mkdirSync(this.#folder, { recursive: true });
  }

  /** The file that a process writes `0` to, to join the group with all that it will start. */
  get processes(): string {
    return join(this.#folder, 'cgroup.procs');
  }

  /** Returns when all are frozen. */
  freeze(): void {
    this.#set('FROZEN', '1');
    const state = this.#isVersion1 ? 'freezer.state' : 'cgroup.events';
    const frozen = this.#isVersion1 ? 'FROZEN' : 'frozen 1';
    while (!readFileSync(join(this.#folder, state), 'utf8').includes(frozen)) {
      // It takes a moment, less than a look at it.
    }
  }

  thaw(): void {
    this.#set('THAWED', '0');
  }

  /** Removes the group as soon as its processes have ended, which they must be about to. */
  async remove(): Promise<void> {
    this.thaw();
    while (readFileSync(this.processes, 'latin1') !== '') await setTimeout(10);
    rmdirSync(this.#folder);
  }

  #set(version1: string, version2: string): void {
    const file = this.#isVersion1 ? 'freezer.state' : 'cgroup.freeze';
    writeFileSync(join(this.#folder, file), this.#isVersion1 ? version1 : version2);
  }
}
