/** The strict schemas that Kubernetes and JobSet publish, of several versions (test/fixtures/kubernetes). */

import { readdirSync, readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import type { Manifest } from '../../../../launcher/src/fleet/starters/kubernetes.ts';

const FOLDER = new URL('../../../fixtures/kubernetes/', import.meta.url);

function schemaSets(project: string): Map<string, Ajv> {
  const pattern = new RegExp(`^${project}-(.*)\\.json$`);
  const versions = readdirSync(FOLDER).flatMap((file) => pattern.exec(file)?.[1] ?? []);
  return new Map(
    versions.map((version) => {
      const ajv = new Ajv({ allErrors: true, strict: false });
      ajv.addSchema(
        JSON.parse(readFileSync(new URL(`${project}-${version}.json`, FOLDER), 'utf8')),
        'schemas',
      );
      return [version, ajv];
    }),
  );
}

const KUBERNETES = schemaSets('kubernetes');
const JOBSET = [...schemaSets('jobset').values()][0]!;

/** Versions of Kubernetes that there are schemas of, without their patch level. */
export const KUBERNETES_VERSIONS = [...KUBERNETES.keys()].map((version) => version.replace(/\.\d+$/, ''));

/** What a version of Kubernetes, with JobSet's resources, has against a manifest. */
export function complaints(version: string, manifest: Manifest): string[] {
  const found = [...KUBERNETES].find(([full]) => full.startsWith(`${version}.`))!;
  if (manifest.kind !== 'JobSet') return complaintsOf(found[1], manifest.kind, manifest);
  const jobs = (manifest as unknown as JobSetManifest).spec.replicatedJobs.map(({ template }) => ({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {},
    spec: template.spec,
  }));
  return [
    ...complaintsOf(JOBSET, 'JobSet', manifest),
    ...jobs.flatMap((job) => complaintsOf(found[1], 'Job', job)),
  ];
}

interface JobSetManifest {
  readonly spec: { readonly replicatedJobs: readonly { readonly template: { readonly spec: object } }[] };
}

function complaintsOf(ajv: Ajv, kind: string, manifest: object): string[] {
  const validate = ajv.getSchema(`schemas#/definitions/${kind}`)!;
  if (validate(manifest)) return [];
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
  );
}
