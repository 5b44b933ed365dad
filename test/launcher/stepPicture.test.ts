import type { StepProfile } from '@sluice/train';
import test from 'ava';
import { stepPicture } from '../../launcher/src/bench/stepPicture.ts';

const PROFILE: StepProfile = {
  stepMs: 10,
  parts: [
    { name: 'linear <layers> & "more"', forwardMs: 2, backwardMs: 4, updateMs: 0 },
    { name: 'AdamW', forwardMs: 0, backwardMs: 0, updateMs: 1 },
  ],
  betweenKernelsMs: 3,
  outsideOperationsMs: 1,
  calls: 12,
};

/** Names of elements with their attributes; throws where tags do not match. */
function elements(xml: string): { name: string; attributes: Record<string, string> }[] {
  const open: string[] = [];
  const found = [...xml.matchAll(/<(\/?)([a-z]+)((?:\s+[\w-:]+="[^"<>]*")*)\s*(\/?)>/gi)].map(
    ([, closes, name, attributes, empty]) => {
      if (closes && open.pop() !== name) throw new Error(`</${name}> closes another element`);
      if (!closes && !empty) open.push(name!);
      const pairs = [...attributes!.matchAll(/([\w-:]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]);
      return { name: closes ? '' : name!, attributes: Object.fromEntries(pairs) };
    },
  );
  if (open.length > 0) throw new Error(`<${open.at(-1)}> is not closed`);
  return found.filter(({ name }) => name !== '');
}

test('the picture is well-formed, and names are escaped', (t) => {
  const svg = stepPicture(PROFILE, 'dense <9m>');
  t.notThrows(() => elements(svg));
  // Every angle bracket is part of a tag.
  t.notRegex(svg.replaceAll(/<\/?[a-z]+(\s+[\w-:]+="[^"<>]*")*\s*\/?>/gi, ''), /[<>]/);
  t.true(svg.includes('linear &lt;layers&gt; &amp; &quot;more&quot;'));
  t.true(svg.includes('prefers-color-scheme: dark'));
});

test('bars are as long as their times, one after the other, and rows do not overlap', (t) => {
  const bars = elements(stepPicture(PROFILE, 'x')).filter(
    ({ name, attributes }) => name === 'rect' && attributes.height === '16',
  );
  const [forward, backward, update, javascript] = bars.map(({ attributes: { x, y, width } }) => ({
    x: Number(x),
    y: Number(y),
    width: Number(width),
  }));
  t.is(bars.length, 4);
  t.true(Math.abs(backward!.width - 2 * forward!.width) < 0.02);
  t.true(Math.abs(backward!.x - forward!.x - forward!.width) < 0.02);
  t.true(Math.abs(forward!.width - 2 * update!.width) < 0.02);
  t.true(Math.abs(javascript!.width - 3 * update!.width) < 0.02);
  t.true(update!.y >= forward!.y + 16 && javascript!.y >= update!.y + 16);
});
