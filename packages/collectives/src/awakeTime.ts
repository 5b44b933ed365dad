/**
 * Time that counts only while this process is awake. One that is suspended (Ctrl-Z, a laptop that sleeps, a virtual machine
 * that is paused) finds all its clocks ahead when it goes on, and everything that it waits for seems late. So limits and
 * silence are counted in ticks of the process's own timers: a tick that comes late counts once, however late it is.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Longest time that one tick stands for, ms. */
const TICK_MS = 1000;

/**
 * Calls `onLimit` once this process was awake for `limitMs`.
 * @returns ends the wait
 */
export function awakeTimeout(limitMs: number, onLimit: () => void): () => void {
  let left = limitMs;
  let timer: NodeJS.Timeout;
  const wait = () => {
    const tick = Math.min(left, TICK_MS);
    timer = setTimeout(() => {
      left -= tick;
      if (left > 0) wait();
      else onLimit();
    }, tick);
  };
  wait();
  return () => clearTimeout(timer);
}

/** A longer time between two looks at an `AwakeClock` counts as so much, ms. */
const LONGEST_STEP_MS = 2000;

/** The same for code that blocks its thread, where no timer ticks: time counts by the looks at it, of which there must be many. */
export class AwakeClock {
  #lookedAt = performance.now();
  #elapsedMs = 0;

  restart(): void {
    this.#lookedAt = performance.now();
    this.#elapsedMs = 0;
  }

  /** @returns milliseconds since the beginning, as far as this process was awake */
  look(): number {
    const now = performance.now();
    this.#elapsedMs += Math.min(now - this.#lookedAt, LONGEST_STEP_MS);
    this.#lookedAt = now;
    return this.#elapsedMs;
  }
}

/** Whether a process of this machine is stopped, by a signal or a debugger. Its silence then says nothing. */
export function isSuspended(pid: number): boolean {
  try {
    return /^[Tt]/.test(processState(pid));
  } catch {
    return false;
  }
}

function processState(pid: number): string {
  if (process.platform !== 'linux') {
    return execFileSync('ps', ['-o', 'state=', '-p', String(pid)], {
      encoding: 'utf8',
      timeout: 5000,
    }).trim();
  }
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name before the state, in parentheses, may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2);
}
