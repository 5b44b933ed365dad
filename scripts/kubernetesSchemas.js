/**
 * `node scripts/kubernetesSchemas.js`: writes `test/fixtures/kubernetes/`, the schemas that manifests are tested against, out of what
 * Kubernetes and JobSet publish as Go modules. Needs `go` and its module proxy; the tests themselves need neither.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { root } from './steps.js';
import { scriptWords } from './words.js';

scriptWords(import.meta.url);

const KUBERNETES = ['1.29.15', '1.31.14', '1.34.4', '1.37.2'];
const JOBSET = '0.11.1';
/** Kinds that the starter writes. */
const KINDS = {
  Job: 'io.k8s.api.batch.v1.Job',
  Service: 'io.k8s.api.core.v1.Service',
  Secret: 'io.k8s.api.core.v1.Secret',
  ConfigMap: 'io.k8s.api.core.v1.ConfigMap',
};
const DRAFT = 'http://json-schema.org/draft-07/schema#';
const out = join(root, 'test/fixtures/kubernetes');

function moduleDirectory(module) {
  const answer = execFileSync('go', ['mod', 'download', '-json', module], { encoding: 'utf8' });
  return JSON.parse(answer).Dir;
}

/** Quantities and the like are written as numbers or texts; the published type says text only. */
const LOOSE = {
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { type: ['string', 'number'] },
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { type: ['string', 'integer'] },
};

/** A published schema without its prose, refusing fields that it does not name. */
function strict(schema, visit) {
  if (Array.isArray(schema)) return schema.map((item) => strict(item, visit));
  if (schema === null || typeof schema !== 'object') return schema;
  if (schema['x-kubernetes-int-or-string']) return { type: ['string', 'integer'] };
  const kept = Object.entries(schema).filter(
    ([key]) => !key.startsWith('x-kubernetes') && !['description', 'default', 'format'].includes(key),
  );
  const cut = Object.fromEntries(
    kept.map(([key, value]) => [
      key,
      key === 'properties'
        ? Object.fromEntries(Object.entries(value).map(([name, property]) => [name, strict(property, visit)]))
        : strict(value, visit),
    ]),
  );
  if (typeof cut.$ref === 'string') visit(cut.$ref.slice('#/definitions/'.length));
  const open = cut.additionalProperties !== undefined || schema['x-kubernetes-preserve-unknown-fields'];
  return cut.properties && !open ? { ...cut, additionalProperties: false } : cut;
}

function kubernetesSchema(version) {
  const directory = moduleDirectory(`k8s.io/kubernetes@v${version}`);
  const published = JSON.parse(readFileSync(join(directory, 'api/openapi-spec/swagger.json'), 'utf8'));
  const definitions = {};
  const visit = (name) => {
    if (name in definitions) return;
    definitions[name] = true;
    definitions[name] = LOOSE[name] ?? strict(published.definitions[name], visit);
  };
  for (const name of Object.values(KINDS)) {
    visit(name);
    definitions[name].required = ['apiVersion', 'kind', 'metadata', ...(definitions[name].required ?? [])];
  }
  const kinds = Object.fromEntries(
    Object.entries(KINDS).map(([kind, name]) => [kind, { $ref: `#/definitions/${name}` }]),
  );
  return { schema: { $schema: DRAFT, definitions: { ...kinds, ...definitions } }, directory };
}

/** JobSet's resource holds a Job, and that the template of a pod, which is cut out: it is tested as that of a Job is. */
function jobSetSchema(version) {
  const directory = moduleDirectory(`sigs.k8s.io/jobset@v${version}`);
  const file = join(directory, 'config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml');
  const [{ schema }] = parse(readFileSync(file, 'utf8')).spec.versions;
  const jobSet = strict(schema.openAPIV3Schema, () => undefined);
  jobSet.properties.metadata = { type: 'object' };
  const { replicatedJobs } = jobSet.properties.spec.properties;
  replicatedJobs.items.properties.template.properties.spec.properties.template = { type: 'object' };
  return {
    $schema: DRAFT,
    definitions: { JobSet: { ...jobSet, required: ['apiVersion', 'kind', 'metadata'] } },
  };
}

mkdirSync(out, { recursive: true });
const write = (name, schema) => writeFileSync(join(out, name), `${JSON.stringify(schema)}\n`);
for (const version of KUBERNETES) {
  const { schema, directory } = kubernetesSchema(version);
  write(`kubernetes-${version}.json`, schema);
  writeFileSync(join(out, 'LICENSE'), readFileSync(join(directory, 'LICENSE')));
}
write(`jobset-${JOBSET}.json`, jobSetSchema(JOBSET));
