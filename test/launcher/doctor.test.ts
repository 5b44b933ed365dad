import { engineReport } from '@sluice/engine';
import test from 'ava';
import { examineCore } from '../../launcher/src/doctor/engine.ts';

test('what doctor says of the engine is what the engine reports', (t) => {
  const { backend, native, simd, vectorWidth, openmp } = engineReport();
  const [core, vectors, threads, chosen] = examineCore();
  t.is(core!.ok, native.loaded);
  t.like(core!.values, { ...native });
  t.is(core!.mend, native.loaded ? undefined : 'npm run build');
  t.deepEqual(vectors!.values, { level: simd, vectorWidth });
  t.is(threads!.values.openmp, openmp);
  t.is(chosen!.values.name, backend);
});
