/** Manifests for the API server's own validation: the starter's, which it must take, and spoilt ones, which it must refuse. */

import { readFileSync } from 'node:fs';
import { kubernetesManifests } from '../../launcher/dist/fleet/starters/kubernetes.js';

const { fewWords: PLAN, further } = JSON.parse(
  readFileSync(new URL('../fixtures/kubernetes/plans.json', import.meta.url), 'utf8'),
);

const EVERYTHING = { ...PLAN, ...further, name: `a${'b'.repeat(49)}` };

/** The Job that the controller of JobSet makes of one; resources of its own are not known to the API server. */
function asJob(manifest) {
  if (manifest.kind !== 'JobSet') return manifest;
  const [{ name, template }] = manifest.spec.replicatedJobs;
  const metadata = { ...template.metadata, name: `${manifest.metadata.name}-${name}-0` };
  return { apiVersion: 'batch/v1', kind: 'Job', metadata, spec: template.spec };
}

const manifestsOf = (plan) => kubernetesManifests(plan).map(asJob);

function spoilt(kind, path, value) {
  const manifest = structuredClone(manifestsOf(PLAN).find((manifest) => manifest.kind === kind));
  const keys = path.split('.');
  keys.slice(0, -1).reduce((object, key) => object[key], manifest)[keys.at(-1)] = value;
  return manifest;
}

/** Each with the words that a refusal must have; without, it must be taken. */
export const MANIFESTS = [
  ...Object.entries({
    'a plan of few words': PLAN,
    'a plan of everything': EVERYTHING,
    'a JobSet': { ...PLAN, jobSet: true },
    'a JobSet of everything': { ...EVERYTHING, jobSet: true },
    'an older Kubernetes': { ...PLAN, kubernetesVersion: '1.29' },
    'one node': { ...PLAN, nodes: 1 },
  }).flatMap(([title, plan]) =>
    manifestsOf(plan).map((manifest) => ({ title: `${title}: ${manifest.kind}`, manifest })),
  ),
  {
    title: 'an unknown field',
    manifest: spoilt('Job', 'spec.completionMod', 'Indexed'),
    refusal: /unknown field "spec.completionMod"/,
  },
  {
    title: 'pods that the node starts again',
    manifest: spoilt('Job', 'spec.template.spec.restartPolicy', 'OnFailure'),
    refusal: /only "Never" is supported when podFailurePolicy is specified/,
  },
  {
    title: 'a name that no host can have',
    manifest: spoilt('Job', 'spec.template.spec.subdomain', 'Sluice_Demo'),
    refusal: /spec.template.spec.subdomain/,
  },
  {
    title: 'a code of success among failures',
    manifest: spoilt('Job', 'spec.podFailurePolicy.rules.0.onExitCodes.values', [0]),
    refusal: /must not be 0 for the In operator/,
  },
  {
    title: 'a mount without a volume',
    manifest: spoilt('Job', 'spec.template.spec.containers.0.volumeMounts.0.name', 'nothing'),
    refusal: /volumeMounts\[0\].name: Not found: "nothing"/,
  },
];
