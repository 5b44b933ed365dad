/** Stands in for ssh: runs what would be run on another host here. */

import { chmodSync } from 'node:fs';
import type { Sandbox } from './sandbox.ts';

/** @returns the path of a program for `--ssh-command` */
export function fakeSsh(sandbox: Sandbox): string {
  const script = `#!/bin/sh
while [ "$1" != -- ]; do shift; done
case "$2" in
  locked*) echo "Host key verification failed." >&2; exit 255 ;;
esac
exec sh -c "$3"
`;
  const path = sandbox.write('ssh.sh', script);
  chmodSync(path, 0o755);
  return path;
}
