import test from 'ava';
import { shownPath, warningsOf } from '../../launcher/src/coordinator/recorder.ts';
import type { StepReport } from '../../launcher/src/coordinator/trainingRun.ts';

function reportOf(changes: Partial<StepReport>, applied = true): StepReport {
  const result = { step: 9, loss: 3.5, gradientNorm: 7, applied } as StepReport['result'];
  return { result, learningRate: 0.1, seconds: 1, nonFiniteInARow: 0, ...changes } as StepReport;
}

test('a checkpoint is shown from the current directory where it lies below it', (t) => {
  t.is(shownPath('/home/me/runs/a/step-1', '/home/me'), 'runs/a/step-1');
  t.is(shownPath('/home/me/..runs/a', '/home/me'), '..runs/a');
  t.is(shownPath('/data/runs/a/step-1', '/home/me'), '/data/runs/a/step-1');
});

test('a warning of a spike names what spiked, its value and what was usual', (t) => {
  const event = { step: 9, value: 7, median: 1.5, excess: 5.5, score: 12 };
  t.deepEqual(warningsOf(reportOf({})), []);
  t.deepEqual(warningsOf(reportOf({ spike: { ...event, signal: 'gradientNorm' } })), [
    'step 9: spike: gradient norm 7.000 over a median of 1.500',
  ]);
  const first = { signal: 'gradientNorm.router', step: 7, ratio: 3.5, score: 9 } as const;
  t.deepEqual(warningsOf(reportOf({ spike: { ...event, signal: 'loss', first } }, false)), [
    'step 9: spike: loss 7.000 over a median of 1.500; it began with gradient norm of router ×3.50 at step 7: update left out',
  ]);
});

test('a warning of an update that was left out shows its numbers, and how many in a row', (t) => {
  const result = { step: 9, loss: Number.NaN, gradientNorm: 7, applied: false } as StepReport['result'];
  t.deepEqual(warningsOf(reportOf({ result, nonFiniteInARow: 2 })), [
    'step 9: loss NaN, gradient norm 7: update left out (2 in a row)',
  ]);
});
