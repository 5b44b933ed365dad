import { availableParallelism } from 'node:os';
import { engineReport, nativeBuildInfo, setThreads } from '@sluice/engine';
import test from 'ava';

test('the report describes the C++ core that runs', (t) => {
  setThreads(2);
  const report = engineReport();
  setThreads(1);
  t.is(report.backend, 'native');
  t.deepEqual(report.native, { loaded: true });
  t.is(report.compiler, nativeBuildInfo().compiler);
  t.true([1, 4, 8, 16].includes(report.vectorWidth));
  t.true(['none', 'SSE', 'AVX', 'AVX2', 'AVX-512', 'NEON'].includes(report.simd));
  // All of these have a fused multiply-add.
  if (['none', 'AVX2', 'AVX-512', 'NEON'].includes(report.simd)) t.true(report.isFused);
  t.is(report.threads, 2);
  t.is(report.cores, availableParallelism());
});
