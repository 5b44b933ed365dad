/** Keys and configuration of the hosts' sshd, and of the ssh that reaches them by name, in one folder. */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './run.ts';

function makeKey(file: string): void {
  run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'lab', '-f', file);
}

/**
 * Writes `ssh_config` (what `ssh h2` needs) and for each host `HOST.sshd_config`. Nobody is asked anything, and no host is
 * trusted that is not of the lab.
 * @param addresses of the hosts, by name
 */
export function writeSshFiles(folder: string, addresses: ReadonlyMap<string, string>): void {
  const at = (name: string) => join(folder, name);
  makeKey(at('id'));
  copyFileSync(at('id.pub'), at('authorized_keys'));
  const known: string[] = [];
  for (const [host, address] of addresses) {
    makeKey(at(`${host}.key`));
    const [kind, key] = readFileSync(at(`${host}.key.pub`), 'utf8').split(' ');
    known.push(`${host},${address} ${kind} ${key}`);
    writeFileSync(
      at(`${host}.sshd_config`),
      `ListenAddress ${address}
HostKey ${at(`${host}.key`)}
PidFile none
AuthorizedKeysFile ${at('authorized_keys')}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
`,
    );
  }
  writeFileSync(at('known_hosts'), `${known.join('\n')}\n`);
  writeFileSync(
    at('ssh_config'),
    `Host *
  User root
  IdentityFile ${at('id')}
  IdentitiesOnly yes
  UserKnownHostsFile ${at('known_hosts')}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
`,
  );
}
