/**
 * The cluster's name server, in place of CoreDNS: addresses of `SERVICE.NAMESPACE.svc.cluster.local` and of pods in it, as the API
 * server's EndpointSlices say them. Words: ADDRESS of its own, URL of the API server, TOKEN.
 */

import { createSocket } from 'node:dgram';
import { Agent, get } from 'node:https';
import { setTimeout } from 'node:timers/promises';
import dnsPacket from 'dns-packet';

const [address = '', server = '', token = ''] = process.argv.slice(2);
const agent = new Agent({ rejectUnauthorized: false, keepAlive: true });
let addresses = new Map<string, string[]>();

interface List<T> {
  readonly items: readonly T[];
}

interface Named {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels?: Record<string, string>;
  };
}

interface Service extends Named {
  readonly spec: { readonly publishNotReadyAddresses?: boolean };
}

interface EndpointSlice extends Named {
  readonly endpoints?: readonly {
    readonly addresses: readonly string[];
    readonly hostname?: string;
    readonly conditions?: { readonly ready?: boolean };
  }[];
}

function ask<T>(path: string): Promise<List<T>> {
  return new Promise((resolve, reject) => {
    const request = get(
      server + path,
      { agent, headers: { authorization: `Bearer ${token}` } },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => (response.statusCode === 200 ? resolve(JSON.parse(text)) : reject(text)));
      },
    );
    request.on('error', reject);
  });
}

async function learn(): Promise<Map<string, string[]>> {
  const [slices, services] = await Promise.all([
    ask<EndpointSlice>('/apis/discovery.k8s.io/v1/endpointslices'),
    ask<Service>('/api/v1/services'),
  ]);
  const nameOf = (service: string, namespace: string) => `${service}.${namespace}.svc.cluster.local`;
  const beforeReady = new Set(
    services.items
      .filter(({ spec }) => spec.publishNotReadyAddresses)
      .map(({ metadata: { name, namespace } }) => nameOf(name, namespace)),
  );
  const learnt = new Map<string, string[]>();
  const add = (name: string, more: readonly string[]) =>
    learnt.set(name, [...(learnt.get(name) ?? []), ...more]);
  for (const { metadata, endpoints } of slices.items) {
    const service = nameOf(metadata.labels?.['kubernetes.io/service-name'] ?? '', metadata.namespace);
    for (const { addresses, hostname, conditions } of endpoints ?? []) {
      if (!conditions?.ready && !beforeReady.has(service)) continue;
      add(service, addresses);
      if (hostname) add(`${hostname}.${service}`, addresses);
    }
  }
  return learnt;
}

const socket = createSocket('udp4', (message, { port, address }) => {
  const { id, questions } = dnsPacket.decode(message);
  const known = addresses.get(questions?.[0]?.name.toLowerCase() ?? '');
  const answers = (questions?.[0]?.type === 'A' ? (known ?? []) : []).map((data) => ({
    ...({ type: 'A', class: 'IN', name: questions![0]!.name, ttl: 1, data } as const),
  }));
  const NO_SUCH_NAME = 3;
  const flags = dnsPacket.AUTHORITATIVE_ANSWER | (known ? 0 : NO_SUCH_NAME);
  socket.send(
    dnsPacket.encode({ type: 'response', ...(id !== undefined && { id }), flags, questions, answers }),
    port,
    address,
  );
});
socket.bind(53, address);
for (;;) {
  // While the API server does not answer, what was learnt holds.
  addresses = await learn().catch(() => addresses);
  await setTimeout(500);
}
