/** Within what processes know each other by their numbers. */

import { readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Of the machine itself, outside of all containers (PROC_PID_INIT_INO of Linux). */
const OF_THE_MACHINE = '4026531836';

/** Number of the name space of processes (pid_namespaces(7)) that this process is in; undefined where there is no such thing. */
export function processNamespace(): string | undefined {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0];
  } catch {
    return undefined;
  }
}

/**
 * For the names of what is swept away when its process is dead: this host, or the container in it. Containers may share its name, its memory
 * and its files (`docker run --network host --ipc host`), but see nothing of each other's processes.
 */
export function processSpace(): string {
  const namespace = processNamespace();
  return namespace === undefined || namespace === OF_THE_MACHINE ? hostname() : `${hostname()}-${namespace}`;
}
