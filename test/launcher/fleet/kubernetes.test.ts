import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseAllDocuments } from 'yaml';
import { placeFromEnvironment } from '../../../launcher/src/fleet/place.ts';
import {
  type KubernetesPlan,
  kubernetesManifests,
  kubernetesText,
  type Manifest,
  submitToKubernetes,
} from '../../../launcher/src/fleet/starters/kubernetes.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { complaints, KUBERNETES_VERSIONS } from './support/kubernetesSchemas.ts';
import { standInPrograms } from './support/standInPrograms.ts';

const { fewWords: PLAN, further } = JSON.parse(
  readFileSync(new URL('../../fixtures/kubernetes/plans.json', import.meta.url), 'utf8'),
) as { readonly fewWords: KubernetesPlan; readonly further: Partial<KubernetesPlan> };

const PLANS: Readonly<Record<string, KubernetesPlan>> = {
  'a plan of few words': PLAN,
  'a plan without a key': { ...PLAN, keyText: undefined } as unknown as KubernetesPlan,
  'a plan of everything': { ...PLAN, ...further },
};

// biome-ignore lint/suspicious/noExplicitAny: the tests look deep into manifests of any kind.
type Loose = any;

const manifestOf = (plan: KubernetesPlan, kind: string): Loose =>
  kubernetesManifests(plan).find((manifest) => manifest.kind === kind);
const podOf = (plan: KubernetesPlan): Loose => manifestOf(plan, 'Job').spec.template.spec;
const documentsOf = (plan: KubernetesPlan): Manifest[] =>
  parseAllDocuments(kubernetesText(plan)).map((document) => document.toJS());

for (const version of KUBERNETES_VERSIONS) {
  for (const [title, plan] of Object.entries(PLANS)) {
    for (const jobSet of [false, true]) {
      test(`Kubernetes ${version} takes ${title}, as a ${jobSet ? 'JobSet' : 'Job'}`, (t) => {
        const manifests = documentsOf({ ...plan, jobSet, kubernetesVersion: version });
        t.true(manifests.length > 0);
        for (const manifest of manifests) t.deepEqual(complaints(version, manifest), [], manifest.kind);
      });
    }
  }
}

test('the schemas refuse what an older version does not know, and what none does', (t) => {
  const job = manifestOf(PLAN, 'Job');
  t.regex(complaints('1.29', job).join(), /successPolicy/);
  const misspelt = { ...job, spec: { ...job.spec, completionMod: 'Indexed' } };
  for (const version of KUBERNETES_VERSIONS) {
    t.regex(complaints(version, misspelt).join(), /completionMod/);
    t.regex(
      complaints(version, { ...job, spec: { ...job.spec, completions: '3' } }).join(),
      /completions must be/,
    );
  }
  const jobSet = manifestOf({ ...PLAN, jobSet: true }, 'JobSet');
  const wrong = { ...jobSet, spec: { ...jobSet.spec, failurePolicy: { maxRestart: 3 } } };
  t.regex(complaints(KUBERNETES_VERSIONS.at(-1)!, wrong).join(), /maxRestart/);
});

test('the text is the manifests', (t) => {
  for (const plan of Object.values(PLANS)) {
    t.deepEqual(documentsOf(plan), JSON.parse(JSON.stringify(kubernetesManifests(plan))));
  }
});

test('an agent in a pod finds its place, and the first pod by its name', (t) => {
  for (const [jobSet, leader] of [
    [false, 'train-0.train'],
    [true, 'train-agents-0-0.train'],
  ] as const) {
    const [manifest] = kubernetesManifests({ ...PLAN, jobSet }).slice(-1) as Loose[];
    const spec = jobSet ? manifest.spec.replicatedJobs[0].template.spec : manifest.spec;
    const pairs = spec.template.spec.containers[0].env.map(({ name, value }: Loose) => [name, value]);
    const env = { ...Object.fromEntries(pairs), JOB_COMPLETION_INDEX: '2' };
    t.deepEqual(placeFromEnvironment(env), {
      source: 'kubernetes',
      nodeRank: 2,
      nodes: 3,
      join: `tcp://${leader}:7700`,
    });
    t.is(spec.completions, 3);
    t.is(spec.parallelism, 3);
  }
});

test('names resolve before the pods are ready, and lead to the pods of the Job', (t) => {
  const { spec, metadata } = manifestOf(PLAN, 'Service');
  t.is(metadata.name, podOf(PLAN).subdomain);
  t.like(spec, { clusterIP: 'None', publishNotReadyAddresses: true });
  t.deepEqual(spec.selector, { 'job-name': manifestOf(PLAN, 'Job').metadata.name });
});

test('how a pod ended decides what becomes of the Job', (t) => {
  const { podFailurePolicy, podReplacementPolicy, template } = manifestOf(PLAN, 'Job').spec;
  const rules = podFailurePolicy.rules.map(({ action, onExitCodes, onPodConditions }: Loose) => [
    action,
    onExitCodes?.values[0] ?? onPodConditions[0].type,
  ]);
  t.deepEqual(rules, [
    ['FailJob', 2],
    ['Ignore', 75],
    ['Ignore', 'DisruptionTarget'],
  ]);
  t.is(podReplacementPolicy, 'Failed');
  t.is(template.spec.restartPolicy, 'Never');
  t.is(podFailurePolicy.rules[0].onExitCodes.containerName, template.spec.containers[0].name);
});

test('signals reach the agent, which has time to save', (t) => {
  const pod = podOf({ ...PLAN, graceSeconds: 240 });
  t.deepEqual(pod.containers[0].command, ['sluice']);
  t.is(pod.terminationGracePeriodSeconds, 240);
});

test('the key is a file that is part of no command line and no environment', (t) => {
  const pod = podOf(PLAN);
  t.false(JSON.stringify(pod).includes('secretKey'));
  const { args, volumeMounts } = pod.containers[0];
  const path: string = args[args.indexOf('--key-file') + 1];
  const mount = volumeMounts.find(({ mountPath }: Loose) => path.startsWith(`${mountPath}/`));
  const { secret } = pod.volumes.find(({ name }: Loose) => name === mount.name);
  const { metadata, stringData } = manifestOf(PLAN, 'Secret');
  t.is(secret.secretName, metadata.name);
  t.is(stringData[path.slice(mount.mountPath.length + 1)], PLAN.keyText);
  t.is(secret.defaultMode, 0o400);
});

test('without the key, the text says how the Secret is made, and has none', (t) => {
  const text = kubernetesText(PLANS['a plan without a key']!);
  t.regex(text, /^# .*kubectl create secret generic train-key --from-file=key\.json=KEY_FILE\n/);
  t.notRegex(text, /kind: Secret/);
});

test('a configuration that the image does not hold comes along, in its place', (t) => {
  const plan = { ...PLAN, configText: 'name: train\n' };
  const { metadata, data } = manifestOf(plan, 'ConfigMap');
  t.deepEqual(data, { 'train.yaml': 'name: train\n' });
  const pod = podOf(plan);
  const volume = pod.volumes.find(({ configMap }: Loose) => configMap?.name === metadata.name);
  const mount = pod.containers[0].volumeMounts.find(({ name }: Loose) => name === volume.name);
  t.is(`${mount.mountPath}/train.yaml`, plan.config);
});

test('workers have shared memory, and a pod of a lost node is soon replaced', (t) => {
  const pod = podOf({ ...PLAN, sharedMemory: '8Gi' });
  const memory = pod.volumes.find(({ emptyDir }: Loose) => emptyDir !== undefined);
  t.deepEqual(memory.emptyDir, { medium: 'Memory', sizeLimit: '8Gi' });
  t.true(
    pod.containers[0].volumeMounts.some(
      ({ name, mountPath }: Loose) => name === memory.name && mountPath === '/dev/shm',
    ),
  );
  t.deepEqual(
    pod.tolerations.map(({ key, tolerationSeconds }: Loose) => [key, tolerationSeconds]),
    [
      ['node.kubernetes.io/not-ready', 30],
      ['node.kubernetes.io/unreachable', 30],
    ],
  );
});

test('GPUs are asked for, and the nodes that have them may be taken', (t) => {
  const pod = podOf({ ...PLAN, gpus: 4, gpuResource: 'amd.com/gpu' });
  t.is(pod.containers[0].resources.limits['amd.com/gpu'], 4);
  t.true(pod.tolerations.some(({ key, effect }: Loose) => key === 'amd.com/gpu' && effect === 'NoSchedule'));
});

const REFUSED: Readonly<Record<string, readonly [Partial<KubernetesPlan>, RegExp]>> = {
  'a name that no host can have': [{ name: 'Train_1' }, /"Train_1"/],
  'a name too long for the names of its pods': [{ name: 'a'.repeat(60) }, /50 characters/],
  'a namespace that is none': [{ namespace: 'my lab' }, /"my lab"/],
  'no image': [{ image: '' }, /image is ""/],
  'no pods': [{ nodes: 0 }, /nodes is 0/],
  'half a GPU': [{ gpus: 0.5 }, /GPUs is 0\.5/],
  'memory in words': [{ memory: '64 GB' }, /memory is "64 GB"/],
  'a port that is none': [{ port: 70_000 }, /port is 70000/],
  'a version that is none': [{ kubernetesVersion: 'latest' }, /"latest"/],
  'a path of the machine that the command runs on': [
    { config: 'train.yaml' },
    /"train\.yaml" does not begin/,
  ],
  'a run that would be lost with its pod': [
    { runDir: '/tmp/run' },
    /\/tmp\/run is in none of the volumes \(\/runs\)/,
  ],
  'a run beside a volume of a similar name': [{ runDir: '/runs2/a' }, /is in none of the volumes/],
  'two volumes in one place': [
    {
      volumes: [
        { mountPath: '/runs', claim: 'a' },
        { mountPath: '/runs', claim: 'b' },
      ],
    },
    /mounted at \/runs/,
  ],
};

for (const [title, [change, message]] of Object.entries(REFUSED)) {
  test(`refused: ${title}`, (t) => {
    t.throws(() => kubernetesManifests({ ...PLAN, ...change }), {
      code: 'SLUICE_E_STARTER_INVALID',
      message,
    });
  });
}

/** kubectl: knows a Job of the given JSON. */
async function submitWith(t: ExecutionContext, known: object | undefined, plan: KubernetesPlan = PLAN) {
  const directory = temporaryDirectory(t);
  const kubectl = `
case "$*" in
  *get*) echo '${known === undefined ? '' : JSON.stringify(known)}' ;;
  *delete*) echo "job.batch/train deleted" ;;
  *apply*) cat > "${directory}/applied"; echo "job.batch/train created" ;;
esac`;
  const path = process.env.PATH;
  process.env.PATH = standInPrograms(directory, { kubectl });
  try {
    const lines = await submitToKubernetes(plan);
    return { lines, applied: readFileSync(join(directory, 'applied'), 'utf8') };
  } finally {
    process.env.PATH = path;
  }
}

test.serial('submitting applies the text, in the namespace', async (t) => {
  const plan = { ...PLAN, namespace: 'lab' };
  const { lines, applied } = await submitWith(t, undefined, plan);
  t.deepEqual(lines, ['job.batch/train created']);
  t.is(applied, kubernetesText(plan));
});

test.serial('a Job that has ended is replaced, one that runs is not', async (t) => {
  const ended = (type: string) => ({ status: { conditions: [{ type, status: 'True' }] } });
  for (const known of [ended('Complete'), ended('Failed')]) {
    const { lines } = await submitWith(t, known);
    t.deepEqual(lines, ['job.batch/train deleted', 'job.batch/train created']);
  }
  for (const known of [
    {},
    ended('Suspended'),
    { status: { conditions: [{ type: 'Failed', status: 'False' }] } },
  ]) {
    await t.throwsAsync(submitWith(t, known), { code: 'SLUICE_E_STARTER_REFUSED', message: /has not ended/ });
  }
});
