/** `sluice doctor`: what this machine has, what will run, and what to mend; and whether hosts can run together. */

import { defineCommand } from '../cli/command.ts';
import { HOSTS_OPTION, SSH_COMMAND_OPTION } from '../cli/options.ts';

interface DoctorArguments {
  readonly hosts?: string;
  readonly sshCommand?: string;
  readonly stdio?: boolean;
}

export const doctorCommand = defineCommand<DoctorArguments>({
  name: 'doctor',
  describe:
    'Tell what this machine has, which backend will run, what is wrong and how to mend it; or whether hosts can run together.',
  positionals: {},
  options: {
    hosts: {
      ...HOSTS_OPTION,
      describe:
        'Hosts that are looked at together (programs, connections, rates): those of a file (as for launch --on ssh:FILE), a configuration or a run.',
    },
    'ssh-command': SSH_COMMAND_OPTION,
    stdio: {
      type: 'boolean',
      conflicts: 'hosts',
      describe: 'Take part in another host’s --hosts over the standard streams. What ssh is told to start.',
    },
  },
  examples: [
    ['sluice doctor', 'Look at this machine.'],
    [
      'sluice doctor --hosts hosts.txt',
      'Connect every pair of hosts, both ways, and name those that cannot.',
    ],
    ['sluice doctor --hosts train.yaml', 'The same with the hosts that the configuration names.'],
  ],
  async run({ hosts, sshCommand, stdio }, { log }) {
    if (stdio) {
      const { serveProbe } = await import('../doctor/hosts/probe.ts');
      await serveProbe();
      return { text: '', json: {} };
    }
    if (hosts !== undefined) {
      const { examineHosts } = await import('../doctor/hosts/examineHosts.ts');
      const { namedHosts } = await import('../fleet/namedHosts.ts');
      return examineHosts(namedHosts(hosts, sshCommand), log);
    }
    const { examine } = await import('../doctor/examine.ts');
    return examine();
  },
});
