import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseAllDocuments } from 'yaml';
import type { LaunchRunOptions } from '../../launcher/src/coordinator/launchOptions.ts';
import { launchRun } from '../../launcher/src/coordinator/launchRun.ts';
import { readKeyFile } from '../../launcher/src/fleet/keyFile.ts';
import { loadRunConfig } from '../../launcher/src/run/runConfig.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { standInPrograms } from './fleet/support/standInPrograms.ts';

const CONFIG = `
name: tiny
model: { vocabularySize: 320, hiddenSize: 32, numLayers: 1, numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 8, intermediateSize: 48 }
data: { recipe: RECIPE, sequenceLength: 32 }
batch: { sequences: 8 }
training: { steps: 4 }
optimizer: { learningRate: 1.0e-3 }
`;

/** A configuration in a folder of its own, and stand-ins for the schedulers' programs on the PATH. */
function workplace(t: ExecutionContext, recipe = '/data/recipe.yaml') {
  const directory = temporaryDirectory(t);
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const path = process.env.PATH;
  process.env.PATH = standInPrograms(directory, {
    sbatch: 'echo 4711',
    kubectl: `case "$*" in *apply*) cat > "${directory}/applied"; echo applied ;; esac`,
  });
  t.teardown(() => {
    process.env.PATH = path;
  });
  const config = file('tiny.yaml', CONFIG.replace('RECIPE', recipe));
  const slurm = `slurm:${file('slurm.yaml', 'timeLimit: "60"\npartition: gpu\n')}`;
  const volumes = 'volumes: [{ mountPath: /runs, claim: runs }]';
  const kubernetes = `kubernetes:${file('cluster.yaml', `image: sluice\nrunDir: /runs/tiny\n${volumes}\n`)}`;
  return { directory, config, slurm, kubernetes, runDir: join(directory, 'run') };
}

const launch = (options: LaunchRunOptions) => launchRun(options, () => {});

test.serial(
  'a job of Slurm finds configuration, key and script with the run, the flags in them',
  async (t) => {
    const { config, slurm, runDir } = workplace(t);
    const flags = { config, on: slurm, runDir, nodes: 2, workers: 4, set: ['optimizer.learningRate=2e-3'] };
    const { json } = await launch(flags);
    t.like(json, { runDir, jobId: '4711', script: join(runDir, 'slurm/job.sh') });
    const script = readFileSync(join(runDir, 'slurm/job.sh'), 'utf8');
    t.regex(script, /#SBATCH --job-name=sluice-tiny\n/);
    t.regex(script, /#SBATCH --partition=gpu\n/);
    const [, launched] = /^config=(.*)$/m.exec(script)!;
    // The coordinator on the first node reads what this command would have.
    t.deepEqual(loadRunConfig(launched!, {}), loadRunConfig(config, flags));
    const [, keyFile] = /^key_file=(.*)$/m.exec(script)!;
    t.is(statSync(keyFile!).mode & 0o777, 0o600);
    // A job that waits in the queue still has its key after the next submission.
    const key = readKeyFile(keyFile!);
    await launch(flags);
    t.deepEqual(readKeyFile(keyFile!), key);
  },
);

test.serial('a dry run for Slurm prints the script, and writes nothing', async (t) => {
  const { directory, config, runDir } = workplace(t);
  const before = readdirSync(directory);
  const { text } = await launch({ config, on: 'slurm', runDir, nodes: 2, dryRun: true });
  t.regex(text, /^#!\/bin\/bash\n#SBATCH/);
  t.deepEqual(readdirSync(directory), before);
  const metrics = { metricsPort: 9400, metricsHost: '0.0.0.0' };
  const observed = await launch({ config, on: 'slurm', runDir, nodes: 2, dryRun: true, ...metrics });
  t.regex(observed.text, /--key-file "\$key_file" --metrics-port 9401 --metrics-host 0\.0\.0\.0 &/);
});

test.serial(
  'metrics that are asked for are served by each pod and by the run, where Prometheus finds them',
  async (t) => {
    const { config, kubernetes } = workplace(t);
    const { text } = await launch({ config, on: kubernetes, nodes: 2, metricsPort: 9400, dryRun: true });
    const job = parseAllDocuments(text)
      .map((document) => document.toJS())
      .find(({ kind }) => kind === 'Job');
    const { metadata, spec } = job.spec.template;
    t.deepEqual(metadata.annotations, { 'prometheus.io/scrape': 'true', 'prometheus.io/port': '9401' });
    const { args, ports } = spec.containers[0] as { args: string[]; ports: { name: string }[] };
    t.deepEqual(args.slice(-6), [
      ...['--run-metrics-port', '9400', '--metrics-port', '9401'],
      ...['--metrics-host', '0.0.0.0'],
    ]);
    t.deepEqual(
      ports.map(({ name }) => name),
      ['control', 'run-metrics', 'metrics'],
    );
  },
);

test.serial('a Job of Kubernetes has the text of the configuration with it, and the key', async (t) => {
  const { directory, config, kubernetes } = workplace(t);
  await launch({ config, on: kubernetes, nodes: 2 });
  const manifests = parseAllDocuments(readFileSync(join(directory, 'applied'), 'utf8')).map((d) => d.toJS());
  const of = (kind: string) => manifests.find((manifest) => manifest.kind === kind);
  t.deepEqual(Object.values(of('ConfigMap').data), [readFileSync(config, 'utf8')]);
  t.regex(of('Secret').stringData['key.json'], /"secretKey"/);
  const { text } = await launch({ config, on: kubernetes, nodes: 2, dryRun: true });
  t.notRegex(text, /secretKey/);
});

test.serial('pods are told whether they see the run’s directory, where a flag says it', async (t) => {
  const { config, kubernetes } = workplace(t);
  for (const [collect, flag] of [
    [true, '--collect'],
    [false, '--no-collect'],
    [undefined, undefined],
  ] as const) {
    const { text } = await launch({ config, on: kubernetes, nodes: 2, collect, dryRun: true });
    const job = parseAllDocuments(text)
      .map((document) => document.toJS())
      .find(({ kind }) => kind === 'Job');
    const { args } = job.spec.template.spec.containers[0] as { args: string[] };
    t.deepEqual(args.slice(-2), [
      ...(flag === undefined ? ['--key-file'] : []),
      '/run/sluice/key/key.json',
      ...(flag === undefined ? [] : [flag]),
    ]);
  }
});

test.serial('a recipe that the pods do not see is refused, unless the configuration is theirs', async (t) => {
  const { directory, config, kubernetes } = workplace(t, 'recipe.yaml');
  const refused = { code: 'SLUICE_E_USAGE', message: /data\.recipe is recipe\.yaml/ };
  await t.throwsAsync(launch({ config, on: kubernetes, nodes: 2 }), refused);
  const file = join(directory, 'cluster.yaml');
  writeFileSync(file, `${readFileSync(file, 'utf8')}config: /work/train.yaml\n`);
  const { text } = await launch({ config, on: kubernetes, nodes: 2, dryRun: true });
  t.regex(text, /--lead\n\s+- \/work\/train\.yaml\n/);
});

const UNHEARD: readonly (readonly [Partial<LaunchRunOptions>, RegExp])[] = [
  [{ untilStep: 3 }, /--until-step: leave it out/],
  [{ moreSteps: 3 }, /--more-steps: leave it out/],
  [{ listen: 'tcp://0.0.0.0:1' }, /--listen: leave it out/],
  [{ watch: true }, /--watch: show the run by `sluice watch`/],
];
const IN_FILES: typeof UNHEARD = [
  [{ runDir: 'runs/a' }, /--run-dir: write runDir into the file of the cluster/],
  [{ set: ['seed=2'] }, /--set: write it into the configuration/],
  [{ expertParallel: 2 }, /--expert-parallel: write it into the configuration/],
];

for (const [flags, message] of [...UNHEARD, ...IN_FILES]) {
  test.serial(`no scheduler is given what it would not pass on: ${Object.keys(flags)}`, async (t) => {
    const { directory, config, slurm, kubernetes } = workplace(t);
    const starters = UNHEARD.some(([unheard]) => unheard === flags) ? [slurm, kubernetes] : [kubernetes];
    for (const on of starters) {
      await t.throwsAsync(launch({ config, on, nodes: 2, ...flags }), { code: 'SLUICE_E_USAGE', message });
    }
    t.false(existsSync(join(directory, 'applied')));
  });
}

test.serial('the number of nodes must be told', async (t) => {
  const { config, slurm, kubernetes, runDir } = workplace(t);
  const refused = { code: 'SLUICE_E_USAGE', message: /--nodes/ };
  await t.throwsAsync(launch({ config, on: slurm, runDir }), refused);
  await t.throwsAsync(launch({ config, on: kubernetes }), refused);
  t.false(existsSync(runDir));
});
