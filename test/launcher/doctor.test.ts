import { engineReport } from '@sluice/engine';
import test from 'ava';
import { examineCore } from '../../launcher/src/doctor/engine.ts';
import { examineGpus } from '../../launcher/src/doctor/machine.ts';

test('what doctor says of the engine is what the engine reports', (t) => {
  const { backend, native, simd, isFused, vectorWidth, openmp } = engineReport();
  const findings = examineCore();
  const [core, vectors, threads, chosen] = ['native core', 'simd', 'threads', 'backend'].map((name) =>
    findings.find((finding) => finding.name === name),
  );
  t.is(core!.ok, native.loaded);
  t.like(core!.values, { ...native });
  t.is(core!.mend, native.loaded ? undefined : 'npm run build');
  t.deepEqual(vectors!.values, { level: simd, vectorWidth });
  t.is(findings.find(({ name }) => name === 'bits')?.ok, native.loaded ? isFused : undefined);
  t.is(threads!.values.openmp, openmp);
  t.is(chosen!.values.name, backend);
});

test('doctor counts the GPUs of each kind, and those that may be used', (t) => {
  const gpu = (name: string) => ({ name, uuid: 'GPU-1', memoryBytes: 80 * 2 ** 30, computeCapability: 9 });
  const gpus = ['H100', 'H100', 'A100'].map(gpu);
  t.is(examineGpus(gpus, undefined).found, '2 × H100 (80.0 GiB), 1 × A100 (80.0 GiB)');
  const some = examineGpus(gpus, '0,2');
  t.regex(some.found, /; CUDA_VISIBLE_DEVICES shows 2$/);
  t.is(some.values.visible, 2);
  t.is(examineGpus([], undefined).found, 'none');
  const { visible } = examineGpus([], '0,1').values as { visible: number };
  t.is(visible, 0, 'what is named is not there for that');
});
