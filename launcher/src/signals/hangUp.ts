/**
 * What a hang-up (SIGHUP: the terminal was closed, the connection broke) means for this process. Whoever starts a program by
 * `nohup` wants it to go on; anyone else that it ends, after saving.
 *
 * Node sets every signal back to its default when it starts, so nothing tells a program that SIGHUP was ignored before. What
 * `nohup` leaves behind is looked for instead; `SLUICE_HANGUP=ignore` or `=stop` says it outright.
 */

import { fstatSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isatty } from 'node:tty';
import { SluiceError } from '@sluice/core';

export type HangUpMeaning = 'stop' | 'ignore';

/** What can be seen of how this process was started. */
export interface Surroundings {
  readonly environment: NodeJS.ProcessEnv;
  /** Whether a file descriptor is a terminal. */
  readonly isTerminal: (descriptor: number) => boolean;
  /** Whether standard output or standard error is the file of this path. */
  readonly writesTo: (path: string) => boolean;
  /** Whether standard input is /dev/null, opened so that it cannot be read: GNU's nohup does that. */
  readonly inputUnreadable: () => boolean;
  /** Whether a process above this one, in the same session, ignores SIGHUP. */
  readonly ancestorIgnores: () => boolean;
}

/** @throws SLUICE_E_USAGE when SLUICE_HANGUP is neither `ignore` nor `stop` */
export function hangUpMeaning(seen: Surroundings = thisProcess()): HangUpMeaning {
  const { environment, isTerminal } = seen;
  const said = environment.SLUICE_HANGUP;
  if (said === 'ignore' || said === 'stop') return said;
  if (said !== undefined && said !== '') {
    throw new SluiceError('SLUICE_E_USAGE', `SLUICE_HANGUP is ${said}, not ignore or stop.`);
  }
  if (seen.ancestorIgnores()) return 'ignore';
  // nohup never leaves output on a terminal; without that, what follows may be left from a program further up.
  if (isTerminal(1) || isTerminal(2)) return 'stop';
  const places = ['nohup.out', join(environment.HOME ?? '', 'nohup.out')];
  // bash and zsh write the command that they start into this variable, and nohup hands it on.
  const byNohup = basename(environment._ ?? '') === 'nohup';
  return byNohup || places.some(seen.writesTo) || seen.inputUnreadable() ? 'ignore' : 'stop';
}

let decided: HangUpMeaning | undefined;
let hungUp = false;

/**
 * Decides what a hang-up means, while the processes above are still there, and ignores it from now on if that is it.
 * @throws SLUICE_E_USAGE
 */
export function prepareForHangUp(onIgnored: () => void): void {
  decided = hangUpMeaning();
  if (decided === 'stop') return;
  process.on('SIGHUP', () => {
    if (!hungUp) onIgnored();
    hungUp = true;
  });
}

/** Whether a hang-up asks for a stop here. */
export function hangUpStops(): boolean {
  return decided !== 'ignore';
}

/** Whether there was a hang-up, and it was ignored. */
export function hasHungUp(): boolean {
  return hungUp;
}

function thisProcess(): Surroundings {
  return {
    environment: process.env,
    isTerminal: isatty,
    writesTo: (path) => [1, 2].some((descriptor) => isSameFile(descriptor, path)),
    inputUnreadable: () => isWriteOnlyNull(0),
    ancestorIgnores: () => process.platform === 'linux' && someAncestorIgnores(process.pid),
  };
}

function isSameFile(descriptor: number, path: string): boolean {
  try {
    const [open, named] = [fstatSync(descriptor), statSync(path)];
    return open.dev === named.dev && open.ino === named.ino;
  } catch {
    return false;
  }
}

function isWriteOnlyNull(descriptor: number): boolean {
  try {
    const flags = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1').match(
      /^flags:\s*([0-7]+)$/m,
    )?.[1];
    const writeOnly = flags !== undefined && (Number.parseInt(flags, 8) & 3) === 1;
    return writeOnly && readlinkSync(`/proc/self/fd/${descriptor}`) === '/dev/null';
  } catch {
    return false;
  }
}

function someAncestorIgnores(pid: number): boolean {
  try {
    const session = processLine(pid).session;
    for (let { parent } = processLine(pid); parent > 1; parent = processLine(parent).parent) {
      if (processLine(parent).session !== session) return false;
      const ignored = readFileSync(`/proc/${parent}/status`, 'latin1').match(/^SigIgn:\s*([0-9a-f]+)$/m)?.[1];
      // The lowest bit is signal 1, SIGHUP.
      if (ignored !== undefined && Number.parseInt(ignored.slice(-1), 16) % 2 === 1) return true;
    }
  } catch {
    // A process above has ended, or is not to be seen.
  }
  return false;
}

function processLine(pid: number): { parent: number; session: string } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // After the name, in parentheses: state, parent, process group, session.
  const [, parent = '0', , session = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(parent), session };
}
