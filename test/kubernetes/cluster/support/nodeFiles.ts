/** Files that the programs of a node are configured by. */

import { join } from 'node:path';
import { IMAGE } from './image.ts';

/** Addresses of a node's pods: of `h2`, those of 198.18.102.0/24. */
export const podSubnet = (node: string) => `198.18.${100 + Number(node.slice(1))}.0/24`;

/** What the kubelet would set in the whole machine, by name, with the values that it wants to find. */
export const SYSCTLS: Readonly<Record<string, number>> = {
  'vm.overcommit_memory': 1,
  'vm.panic_on_oom': 0,
  'kernel.panic': 10,
  'kernel.panic_on_oops': 1,
  'kernel.keys.root_maxkeys': 1_000_000,
  'kernel.keys.root_maxbytes': 25_000_000,
};

/** A bridge of the node's own, for the container network interface. */
export function podNetwork(node: string, folder: string): string {
  const ipam = {
    type: 'host-local',
    dataDir: join(folder, 'addresses'),
    ranges: [[{ subnet: podSubnet(node) }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const bridge = { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: false, hairpinMode: true, ipam };
  return JSON.stringify({ cniVersion: '0.4.0', name: 'lab', plugins: [bridge] });
}

export function containerdConfig(folder: string): string {
  return `version = 2
root = "${join(folder, 'containerd')}"
state = "${join(folder, 'state')}"
[grpc]
  address = "${join(folder, 'containerd.sock')}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  stream_server_address = "127.0.0.1"
  # Root in a container may not make a process less likely to be killed for memory.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${join(folder, 'network')}"
`;
}

/** @param groups name of the pods' control groups, which are not sorted by quality of service: that needs systemd */
export function kubeletConfig(folder: string, nameServer: string, groups: string): string {
  const least = { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' };
  return JSON.stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    cgroupRoot: `/${groups}`,
    enforceNodeAllocatable: [],
    containerRuntimeEndpoint: `unix://${join(folder, 'containerd.sock')}`,
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    failSwapOn: false,
    makeIPTablesUtilChains: false,
    resolvConf: join(folder, 'resolv.conf'),
    clusterDNS: [nameServer],
    clusterDomain: 'cluster.local',
    readOnlyPort: 0,
    healthzPort: 0,
    nodeStatusUpdateFrequency: '5s',
    evictionHard: least,
    imageGCHighThresholdPercent: 100,
    localStorageCapacityIsolation: false,
    featureGates: { KubeletInUserNamespace: true },
  });
}
