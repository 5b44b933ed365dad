/**
 * A Slurm cluster of several nodes on this machine, out of Debian's slurm-wlm and munge. It must be started in namespaces of its own
 * (scripts/testSlurm.js makes them), so that it meets no other, nothing of it can be reached, and all of it ends with them.
 */

import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/until.ts';

const CONTROLLER = 'controller';
const CONTROLLER_PORT = 17_000;

/** Each node has an address of its own, of the range for tests of networks (RFC 2544). */
const addressOf = (index) => `198.18.0.${index + 1}`;

/**
 * @param directory an empty one, for everything that the cluster writes
 * @returns a way to call Slurm's programs, and the process of each node's daemon
 */
export async function startCluster(directory, nodes) {
  const names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
  network(directory, names);
  const daemons = new Map();
  const daemon = daemonStarter(directory, daemons);
  writeConfiguration(directory, names);
  const key = join(directory, 'munge.key');
  writeFileSync(key, randomBytes(128), { mode: 0o600 });
  daemon('munged', ['--foreground', '--force', `--key-file=${key}`, ...mungeFiles(directory)]);
  daemon('slurmctld', ['-D']);
  for (const name of names) daemon(`slurmd`, ['-D', '-N', name], name);
  const slurm = client(directory);
  await until(
    'all nodes are idle',
    () => slurm('sinfo', '-h', '-t', 'idle', '-o', '%D', '-p', 'main') === String(nodes),
  );
  return { slurm, daemonOf: (node) => daemons.get(node) };
}

/** Loopback with the nodes' addresses, and a file of hosts that names them. */
function network(directory, names) {
  const run = (command, ...args) => execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const hosts = [...names, CONTROLLER].map((name, index) => `${addressOf(index)} ${name}`);
  writeFileSync(join(directory, 'hosts'), `127.0.0.1 localhost\n${hosts.join('\n')}\n`);
  run('mount', '--bind', join(directory, 'hosts'), '/etc/hosts');
  run('hostname', CONTROLLER);
  run('ip', 'link', 'set', 'lo', 'up');
  for (const index of hosts.keys()) run('ip', 'address', 'add', `${addressOf(index)}/32`, 'dev', 'lo');
}

function mungeFiles(directory) {
  return [
    `--socket=${join(directory, 'munge.sock')}`,
    `--pid-file=${join(directory, 'munged.pid')}`,
    `--log-file=${join(directory, 'munged.log')}`,
    `--seed-file=${join(directory, 'munge.seed')}`,
  ];
}

function writeConfiguration(directory, names) {
  for (const folder of ['state', ...names.map((name) => `spool-${name}`)]) mkdirSync(join(directory, folder));
  const lines = names.map(
    (name, index) =>
      `NodeName=${name} NodeHostname=${CONTROLLER} NodeAddr=${addressOf(index)} Port=${CONTROLLER_PORT + 1 + index} CPUs=2 RealMemory=4000`,
  );
  writeFileSync(
    join(directory, 'slurm.conf'),
    `ClusterName=sluice
SlurmctldHost=${CONTROLLER}(${addressOf(names.length)})
SlurmctldPort=${CONTROLLER_PORT}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# How long a credential is good for also bounds when a job that was put into the queue again may start.
AuthInfo=socket=${join(directory, 'munge.sock')},cred_expire=5
StateSaveLocation=${join(directory, 'state')}
SlurmdSpoolDir=${join(directory, 'spool-%n')}
SlurmctldPidFile=${join(directory, 'slurmctld.pid')}
SlurmdPidFile=${join(directory, 'slurmd-%n.pid')}
# No systemd here: processes are known by their parents, and nothing is pinned.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# The nodes claim more cores together than the machine has.
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=15
KillWait=20
JobRequeue=1
# Jobs of 'urgent' push those of 'main' aside, which have ten seconds to save.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
${lines.join('\n')}
PartitionName=main Nodes=${names.join(',')} Default=YES MaxTime=60 PriorityTier=1 GraceTime=10
PartitionName=urgent Nodes=${names.join(',')} MaxTime=60 PriorityTier=10 PreemptMode=OFF
`,
  );
  writeFileSync(join(directory, 'cgroup.conf'), 'CgroupAutomount=no\nCgroupPlugin=autodetect\n');
}

function daemonStarter(directory, started) {
  const env = { ...process.env, SLURM_CONF: join(directory, 'slurm.conf') };
  return (command, args, name = command) => {
    const log = join(directory, `${name}.log`);
    const child = spawn(command, args, {
      env,
      stdio: 'ignore',
      ...(command !== 'munged' && { argv0: command }),
    });
    started.set(name, child);
    child.once('exit', (code, signal) =>
      process.stderr.write(`${name} ended (${signal ?? code}); see ${log}\n`),
    );
  };
}

/** Calls one of Slurm's programs. @returns its output; undefined where it fails */
function client(directory) {
  const env = { ...process.env, SLURM_CONF: join(directory, 'slurm.conf') };
  process.env.SLURM_CONF = env.SLURM_CONF;
  return (command, ...args) => {
    try {
      return execFileSync(command, args, {
        env,
        encoding: 'utf8',
        timeout: 20_000,
        stdio: ['ignore', 'pipe', 'pipe'],
      }).trim();
    } catch {
      return undefined;
    }
  };
}
