import { engineReport } from '@sluice/engine';
import test from 'ava';
import { examineCore } from '../../launcher/src/doctor/engine.ts';

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
