/// <reference lib="dom" />
/** What happened in a run, marked in its charts. */

import type UPlot from 'uplot';
import type { ReportData } from '../data.ts';
import { color } from './theme.ts';

/**
 * Draws spikes and steps that were given up as bands, behind the curves, and skipped updates as thin lines.
 * @param dataNow what is marked by the time that it is drawn
 */
export function marks(dataNow: () => Pick<ReportData, 'spikes' | 'rollbacks' | 'skipped'>): UPlot.Plugin {
  const draw = (u: UPlot) => {
    const data = dataNow();
    const { ctx, bbox } = u;
    const x = (step: number) => u.valToPos(step, 'x', true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const { from, to } of data.rollbacks) {
      const left = x(to + 0.5);
      ctx.fillStyle = color('quarantine-fill');
      ctx.fillRect(left, bbox.top, Math.max(devicePixelRatio, x(from + 0.5) - left), bbox.height);
    }
    for (const { start, end, isGivenUp } of data.spikes) {
      const left = x(start - 0.5);
      const width = Math.max(2 * devicePixelRatio, x(end + 0.5) - left);
      ctx.fillStyle = color('spike-fill');
      if (!isGivenUp) ctx.fillRect(left, bbox.top, width, bbox.height);
      // A short spike of a long run is a hair wide: a tick at the top makes it findable.
      ctx.fillStyle = color('spike');
      ctx.fillRect(left, bbox.top, width, 4 * devicePixelRatio);
    }
    ctx.fillStyle = color('skipped');
    // Many of them are not to hide the curve.
    ctx.globalAlpha = Math.max(0.3, Math.min(1, 10 / data.skipped.length));
    for (const step of data.skipped) ctx.fillRect(x(step), bbox.top, devicePixelRatio, bbox.height);
    ctx.globalAlpha = 1;
    data.rollbacks.forEach(({ from, to }, index) => {
      drawWayBack(ctx, x(from), x(to), bbox.top + (12 + 9 * (index % 4)) * devicePixelRatio);
    });
    ctx.restore();
  };
  return { hooks: { drawAxes: draw } };
}

/** An arrow to the left, with a post where it begins. */
function drawWayBack(ctx: CanvasRenderingContext2D, from: number, to: number, y: number): void {
  const size = 4 * devicePixelRatio;
  ctx.strokeStyle = color('way-back');
  ctx.fillStyle = color('way-back');
  ctx.lineWidth = 1.25 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(from, y - size);
  ctx.lineTo(from, y + size);
  ctx.moveTo(from, y);
  ctx.lineTo(to, y);
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(to, y);
  ctx.lineTo(to + 1.6 * size, y - size);
  ctx.lineTo(to + 1.6 * size, y + size);
  ctx.fill();
}
