import test from 'ava';
import { beyondTheEnd, lastStepOf } from '../../launcher/src/run/stopPoint.ts';

test('--until-step names a step of the run, --more-steps counts from where it is', (t) => {
  t.is(lastStepOf({}, 4, 10), 10);
  t.is(lastStepOf({ untilStep: 7 }, 4, 10), 7);
  t.is(lastStepOf({ moreSteps: 3 }, 4, 10), 7);
  t.is(lastStepOf({ moreSteps: 1 }, 0, 10), 1);
});

test('a step that the run has passed, or is at, is refused with both numbers', (t) => {
  for (const untilStep of [3, 4]) {
    const error = t.throws(() => lastStepOf({ untilStep }, 4, 10), { code: 'SLUICE_E_USAGE' });
    t.regex(error.message, new RegExp(`--until-step is ${untilStep}, but the run is at step 4 already`));
  }
});

test('steps beyond the end of the run end with it, and that is said', (t) => {
  t.is(lastStepOf({ untilStep: 11 }, 4, 10), 10);
  t.is(lastStepOf({ moreSteps: 7 }, 4, 10), 10);
  t.deepEqual([...beyondTheEnd({}, 4, 10), ...beyondTheEnd({ untilStep: 10 }, 4, 10)], []);
  t.deepEqual(beyondTheEnd({ moreSteps: 6 }, 4, 10), []);
  t.regex(
    beyondTheEnd({ untilStep: 11 }, 4, 10).join(),
    /--until-step 11: the run ends at its step 10 .* --set training\.steps=N, .* --allow training\.steps/,
  );
  t.regex(beyondTheEnd({ moreSteps: 7 }, 4, 10).join(), /--more-steps 7: the run ends at its step 10/);
});
