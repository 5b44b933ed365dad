import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import test from 'ava';
import { plainWords, repeatFlags } from '../../launcher/src/cli/arguments.ts';
import { errorAsJson, exitCodeOf, formatError } from '../../launcher/src/cli/output.ts';
import { COMMANDS } from '../../launcher/src/commands/index.ts';
import { GLOBAL_OPTIONS, main } from '../../launcher/src/main.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** Runs a command line in this process. */
async function sluice(...words: string[]) {
  let out = '';
  let err = '';
  const code = await main(words, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

test('commands and flags are those that the design lists', (t) => {
  const listed = COMMANDS.map(({ name, positionals, options }) =>
    [
      name,
      ...Object.keys(positionals).map((key) => `<${key}>`),
      ...Object.keys(options).map((key) => `--${key}`),
    ].join(' '),
  );
  t.deepEqual(listed, [
    'train <config> --set --from --from-missing --workers --expert-parallel --threads --run-dir --backend --precision --until-step --more-steps --metrics-port --watch --watch-port',
    'resume <run> --workers --allow --set --from-scratch --until-step --more-steps --metrics-port --watch --watch-port',
    'launch <config> --on --run-dir --dry-run --nodes --listen --advertise --key-file --ssh-command --collect --set --workers --expert-parallel --threads --metrics-port --metrics-host --watch --watch-port --until-step --more-steps',
    'agent --join --key-file --stdio --node --node-rank --nodes --advertise --slots --lead --run-dir --collect --patience --preemption --metrics-port --metrics-host --run-metrics-port',
    'key <file>',
    'ps <run> --hosts --ssh-command --token',
    'watch <runs> --port --host --token-file --once --tui',
    'tensorboard <run> --out',
    'mlflow <run> --url --experiment --follow',
    'export-metrics <run> --csv --parquet',
    'stop <run> --hosts --ssh-command --token',
    'generate <source> --prompt --max-tokens --temperature --top-k --seed --backend --precision',
    'evaluate <source> --split --text --data --sequence-length --set --backend --precision --task --length --depths --samples --needles --chains --hops --haystack --seed',
    'diagnose <sources> --split --text --data --sequence-length --sequences --html --layers --heads --set --backend --precision',
    'logits <source> --ids --out --backend --precision',
    'hash <checkpoint>',
    'inspect <run> --step --losses --backend --precision',
    'spikes <curve> --loss-tag --norm-tag --window --warmup-steps --threshold --minimum-excess --minimum-ratio --svg',
    'replay <run> --step --workers --threads',
    'count <model> --set --baseline --scale',
    'plan <model> --set --workers --expert-parallel --device --sequence-length --batch --grain --scale --backend --precision',
    'simulate <config> --set --devices --device --devices-per-host --expert-parallel --batch --grain --sequence-length --topology --link --latency --message --imbalance --measured --mtbf --detect --restart --stall --save --write-rate --save-every --copy-every --copy-stall --copy-survival --days --seed --svg',
    'verify-resume <config> --kills --seed --agents --run-dir --set --workers --expert-parallel --threads',
    'import <source> --out --ignore-config',
    'experiment <experiment> --scale --seeds --rows --jobs --threads --directory --keep-checkpoints',
    'find-lr <experiment> --scale --seeds --rows --jobs --threads --directory',
    'claims <claims> --only --scale --seeds --budget --jobs --threads --directory',
    'export <source> --hf --dtype --layout',
    'data prepare <recipe> --force',
    'data list',
    'bench step --shape --threads --backend --precision --clock --profile --svg',
    'bench kernels --threads --filter --clock --backend',
    'bench collectives --operation --world --mib --hosts --ssh-command --protection',
    'backend install <name> --gpu --nccl',
    'backend list',
    'doctor --hosts --ssh-command --stdio',
    'completion --shell',
  ]);
  t.deepEqual(Object.keys(GLOBAL_OPTIONS), ['json', 'verbose']);
});

test('a flag with a value that is given twice is refused, not added up; --set may be repeated', async (t) => {
  for (const flags of [
    ['--workers', '2', '--workers', '1'],
    ['--workers=1', '--workers=1'],
    ['--until-step', '1', '--until-step=1'],
  ]) {
    const { code, out } = await sluice('train', 'missing.yaml', ...flags, '--json');
    t.is(code, 2);
    const { error } = JSON.parse(out);
    t.is(error.code, 'SLUICE_E_USAGE');
    t.regex(error.message, /^--(workers|until-step) is [12] and 1, but takes one value/);
  }
  const repeated = await sluice(
    'train',
    'missing.yaml',
    '--set',
    'seed=1',
    '--set',
    'seed=2',
    '--json',
    '--json',
  );
  t.is(JSON.parse(repeated.out).error.code, 'SLUICE_E_FILE_MISSING');
});

test('a prompt may be empty', async (t) => {
  for (const prompt of [['--prompt', ''], ['--prompt=']]) {
    const { out } = await sluice('generate', '/nonexistent/run', ...prompt, '--json');
    t.is(JSON.parse(out).error.code, 'SLUICE_E_FILE_MISSING');
  }
});

test('what diagnose cannot find is told before any model is looked at', async (t) => {
  // The first is no run, which would be told of it next.
  for (const [missing, words] of [
    ['/nonexistent/run', ['.', '/nonexistent/run']],
    ['/nonexistent', ['.', '--html', '/nonexistent/page.html']],
  ] as const) {
    const { out } = await sluice('diagnose', ...words, '--json');
    t.like(JSON.parse(out).error, { code: 'SLUICE_E_FILE_MISSING', message: `There is no ${missing}.` });
  }
});

test('a step is not measured for a picture that has no directory', async (t) => {
  const { out } = await sluice(
    ...'bench step --shape tiny-100k --svg /nonexistent/step.svg --json'.split(' '),
  );
  t.like(JSON.parse(out).error, { code: 'SLUICE_E_FILE_MISSING', message: 'There is no /nonexistent.' });
});

test('a checkpoint that does not exist is not taken for a half-written one', async (t) => {
  const path = join(temporaryDirectory(t), 'step-00000099');
  const { out } = await sluice('hash', path, '--json');
  t.like(JSON.parse(out).error, { code: 'SLUICE_E_FILE_MISSING', message: `There is no ${path}.` });
});

test('every command has a help with its flags and an example', async (t) => {
  for (const { name, options, examples } of COMMANDS) {
    const { code, out } = await sluice(...name.split(' '), '--help');
    t.is(code, 0, name);
    t.true(examples.length > 0, name);
    for (const [line] of examples) t.true(out.replaceAll(/\s+/g, ' ').includes(line), `${name}: ${line}`);
    for (const flag of [...Object.keys(options), 'json'])
      t.true(out.includes(`--${flag}`), `${name} --${flag}`);
    t.notRegex(out, /default: (\[|null|undefined)/, name);
  }
});

test('help fits into a narrow terminal, and stays readable in a wide one', async (t) => {
  for (const { name } of COMMANDS) {
    for (const [columns, most] of [
      [80, 80],
      [300, 110],
    ] as const) {
      let out = '';
      await main([...name.split(' '), '--help'], { out: (text) => (out += text), err: () => {}, columns });
      const longest = Math.max(...out.split('\n').map((line) => line.length));
      t.true(longest <= most, `${name}: ${longest} in ${columns} columns`);
    }
  }
});

test('the help lists every command', async (t) => {
  const { code, out } = await sluice('--help');
  t.is(code, 0);
  for (const { name } of COMMANDS) t.true(out.includes(name.split(' ')[0]!), name);
});

const mistakes: [string[], RegExp][] = [
  [[], /Which command/],
  [['trian', 'x.yaml'], /There is no sluice trian \(did you mean train\?\)/],
  [['data', 'prapare', 'x.yaml'], /There is no sluice data prapare \(did you mean data prepare\?\)/],
  [['train'], /sluice train needs <config>/],
  [['train', 'x.yaml', '--wrokers', '2'], /sluice train has no --wrokers \(did you mean --workers\?\)/],
  [['train', 'x.yaml', '--run_dir=x'], /has no --run_dir \(did you mean --run-dir\?\)/],
  [['train', 'x.yaml', '-set', 'a=b'], /has no -set \(did you mean --set\?\)/],
  [['train', 'x.yaml', '-h'], /has no -h \(did you mean --help\?\)/],
  [['train', 'x.yaml', '--lr', '1'], /has no --lr; sluice train --help lists/],
  [['train', 'x.yaml', 'y.yaml'], /sluice train takes <config>, and no y\.yaml besides\.$/m],
  [['train', 'x.yaml', 'training.steps=5'], /Did you mean --set training\.steps=5\?/],
  [['doctor', 'x'], /sluice doctor takes no argument, and no x besides/],
  [['generate', 'runs/x', '--promt', 'a'], /has no --promt \(did you mean --prompt\?\)/],
  [['generate', 'runs/x', '--prompt', '--foo'], /has no --foo \(as a value: --prompt=--foo\)/],
  [['export-metrics', 'runs/x', '--csv'], /--csv needs a value/],
  [['train', 'x.yaml', '--workers', 'two'], /--workers is two, not a whole number/],
  [['train', 'x.yaml', '--workers=two'], /--workers is two, not a whole number/],
  [['train', ''], /Argument 2 is empty/],
  [['train', 'x.yaml', '--run-dir', ''], /--run-dir is empty/],
  [['train', 'x.yaml', '--run-dir='], /--run-dir is empty/],
  [['train', 'x.yaml', '--workers', '0'], /--workers is 0, not a whole number of at least 1/],
  [['train', 'x.yaml', '--workers', '1', '--workers', '2'], /--workers is 1 and 2/],
  [['train', 'x.yaml', '--until-step', '1.5'], /--until-step is 1\.5/],
  [['resume', 'runs/x', '--more-steps', '0'], /--more-steps is 0, not a whole number of at least 1/],
  [['resume', 'runs/x', '--more-steps', '1', '--until-step', '9'], /until-step and more-steps are mutually/],
  [['resume', 'runs/x', '--max-steps', '1'], /no --max-steps any more: .*--until-step N .*--more-steps N/],
  [['train', 'x.yaml', '--max-steps=1'], /no --max-steps any more/],
  [['generate', 'runs/x'], /sluice generate needs --prompt\./],
  [
    ['generate', 'runs/x', '--prompt', 'a', '--backend', 'cudda'],
    /--backend is cudda \(did you mean cuda\?\), not one of native, cuda, tensorflow, webgpu, wasm, cpu\./,
  ],
  [['evaluate', 'runs/x', '--split', 'test'], /--split is test, not one of validation, train\./],
  [['evaluate', 'runs/x', '--text', 'a.txt', '--data', 'b'], /data and text are mutually exclusive/],
  [['evaluate', 'runs/x', '--length', '1k'], /--length needs --task\./],
  [['evaluate', 'runs/x', '--task', 'niah', '--length', '1m'], /--length is 1m, not numbers of tokens/],
  [['evaluate', 'runs/x', '--task', 'niah', '--depths', '0,2'], /--depths is 0,2, not numbers from 0 to 1/],
  [['evaluate', 'runs/x', '--task', 'niah', '--needles', '65'], /--needles is 65, .* at most 64/],
  [['evaluate', 'runs/x', '--task', 'qa'], /qa/],
  [['diagnose'], /sluice diagnose needs <sources>/],
  [['diagnose', 'runs/x', '--layers', '0,last'], /--layers is 0,last/],
  [['diagnose', 'runs/x', '--layers', '0'], /--layers needs --html\./],
  [['inspect', 'runs/x', '--losses'], /--losses needs --step\./],
  [['inspect', 'runs/x', '--step', '1', '--backend', 'cuda'], /--backend needs --losses\./],
  [['stop', '--hosts', 'hosts.txt'], /--hosts needs <run>\./],
  [['diagnose', 'runs/x', '--sequence-length', '1'], /--sequence-length is 1/],
  [['logits', 'models/x'], /sluice logits needs --ids and --out\./],
  [['import', 'models/x'], /sluice import needs --out\./],
  [['export', 'runs/x', '--hf', 'y', '--dtype', 'f8'], /f8/],
  [['export', 'runs/x', '--hf', 'y', '--layout', 'llama'], /llama/],
  [['bench', 'step', '--shape', 'dense-1t'], /dense-1t/],
  [['bench', 'kernels', '--backend', 'cuda', '--clock', 'cpu'], /--threads and --clock are for .* native/],
  [['bench', 'kernels', '--filter', 'nosuch'], /None of the \d+ kernels has "nosuch" in its name/],
  // Before a device is looked for, and measured.
  [['bench', 'kernels', '--backend', 'cuda', '--filter', 'nosuch'], /None of the \d+ kernels has "nosuch"/],
  [['bench', 'kernels', '--threads', '2', '--clock', 'cpu'], /--clock cpu .* Give --threads 1/],
  [['bench', 'step', '--shape', 'tiny-100k', '--threads', '2', '--clock', 'cpu'], /Give --threads 1/],
  [
    ['bench', 'collectives', '--world', '100000'],
    /--world is 100000, not a whole number of at least 2 and at most 256/,
  ],
  [['bench', 'collectives', '--world', '1'], /--world is 1, not a whole number of at least 2/],
  [
    ['generate', 'x', '--prompt', 'a', '--max-tokens', '1e10'],
    /--max-tokens is 10000000000, not a whole number of at least 1 and at most 1048576/,
  ],
  [
    ['generate', 'x', '--prompt', 'a', '--temperature', '1e9'],
    /--temperature is 1000000000, not a number of at least 0 and at most 100/,
  ],
  [['bench', 'collectives', '--mib', '0'], /--mib is 0, not a number of at least 0\.001/],
  [['bench'], /Which one/],
  [['data', 'prepare'], /sluice data prepare needs <recipe>/],
];

for (const [words, message] of mistakes) {
  test(`sluice ${words.join(' ')}: a usage error with its own exit code`, async (t) => {
    const plain = await sluice(...words);
    t.is(plain.code, 2);
    t.is(plain.out, '');
    t.regex(plain.err, /^error SLUICE_E_USAGE: /);
    t.regex(plain.err, message);
    t.notRegex(plain.err, /\n\s+at /);

    const json = await sluice(...words, '--json');
    t.is(json.code, 2);
    t.is(json.err, '');
    t.is(JSON.parse(json.out).error.code, 'SLUICE_E_USAGE');
  });
}

test('an error is JSON where --json has a value, too', async (t) => {
  const { out, err } = await sluice('trian', '--json=true');
  t.is(JSON.parse(out).error.code, 'SLUICE_E_USAGE');
  t.is(err, '');
});

test('a missing configuration is a coded error, on standard error or as the one JSON object', async (t) => {
  const plain = await sluice('train', '/nonexistent/run.yaml');
  t.is(plain.code, 1);
  t.is(plain.out, '');
  t.regex(plain.err, /^error SLUICE_E_FILE_MISSING: .*\/nonexistent\/run\.yaml/);
  t.regex(plain.err, /Check the path/);

  const json = await sluice('train', '/nonexistent/run.yaml', '--json');
  t.is(json.code, 1);
  t.is(json.out.trim().split('\n').length, 1);
  t.like(JSON.parse(json.out).error, { code: 'SLUICE_E_FILE_MISSING' });
});

test('--version prints that of the package', async (t) => {
  const { version } = JSON.parse(readFileSync('launcher/package.json', 'utf8'));
  const { code, out } = await sluice('--version');
  t.is(code, 0);
  t.is(out, `${version}\n`);
});

test('--verbose shows where a coded error comes from', async (t) => {
  const { err } = await sluice('train', '/nonexistent/run.yaml', '--verbose');
  t.regex(err, /\n\s+at /);
});

test('errors show code, message and advice, and are one JSON object with --json', (t) => {
  const options = { json: false, verbose: false };
  const coded = new SluiceError('SLUICE_E_USAGE', 'what was wrong', { details: { flag: 'x' } });
  t.is(formatError(coded, options), `error SLUICE_E_USAGE: what was wrong\n  ${coded.advice}\n`);
  t.deepEqual(JSON.parse(errorAsJson(coded)).error.details, { flag: 'x' });
  t.is(exitCodeOf(coded), 2);
  t.is(exitCodeOf(new SluiceError('SLUICE_E_RUN_EXISTS', '')), 1);
});

test('words after -- are arguments, whatever they begin with', async (t) => {
  t.deepEqual(plainWords(['hash', '--json', '--', '--odd', 'run']), ['hash', '--json', './--odd', 'run']);
  const { code, err } = await sluice('hash', '--', '/nonexistent/run');
  t.is(code, 1);
  t.regex(err, /^error SLUICE_E_FILE_MISSING: .*\/nonexistent\/run/);
});

test('repeatable flags take further values, but not the command’s own arguments', (t) => {
  const rewritten = (line: string) => repeatFlags(line.split(' ')).join(' ');
  t.is(
    rewritten('train c.yaml --set a.b=1 c=2 --workers 2'),
    'train c.yaml --set a.b=1 --set c=2 --workers 2',
  );
  t.is(rewritten('train --set a.b=1 c.yaml'), 'train --set a.b=1 c.yaml');
  t.is(rewritten('train --set a.b=1 --set c=2 c.yaml'), 'train --set a.b=1 --set c=2 c.yaml');
  t.is(
    rewritten('resume --allow optimizer training.steps runs/x'),
    'resume --allow optimizer --allow training.steps runs/x',
  );
  t.is(
    rewritten('resume runs/x --allow training.steps --set training.steps=9'),
    'resume runs/x --allow training.steps --set training.steps=9',
  );
});
