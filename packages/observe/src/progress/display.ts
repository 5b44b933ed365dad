/** The progress of a run for people to watch. It writes to one stream, standard error unless told otherwise. */

import { performance } from 'node:perf_hooks';
import { createLogUpdate } from 'log-update';
import { onExit } from 'signal-exit';
import type { StepRecord } from '../record.ts';
import { StepClock } from './clock.ts';
import {
  type FleetState,
  type Paint,
  type ProgressState,
  painter,
  printable,
  renderBlock,
  renderPlainLine,
  renderValidationLine,
} from './layout.ts';

const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const REDRAW_MILLISECONDS = 200;
/** The clock of the block goes on while a step takes long. */
const TICK_MILLISECONDS = 1000;

/** What the display needs of a stream. */
export type ProgressStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

export interface ProgressOptions {
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /** What all the steps up to one are worth, in any unit; as many as there are when left out. */
  readonly workThrough?: (step: number) => number;
  /** Standard error when left out. A live block is drawn where it is a terminal, plain lines elsewhere. */
  readonly stream?: ProgressStream;
  /** Colours on a terminal; by default unless NO_COLOR is set or TERM is dumb. */
  readonly color?: boolean;
  /** Seconds of a clock that only goes forward. */
  readonly now?: () => number;
  /** Plain lines: one every so many steps (a twentieth of the run by default) … */
  readonly plainEverySteps?: number;
  /** … or when so many seconds have gone by since the last one. */
  readonly plainEverySeconds?: number;
}

export type MessageKind = 'info' | 'good' | 'warning' | 'error';

const MESSAGE_MARKS: Readonly<Record<MessageKind, { mark: string; style: Parameters<Paint>[0] }>> = {
  info: { mark: '·', style: 'dim' },
  good: { mark: '✓', style: 'green' },
  warning: { mark: '!', style: 'yellow' },
  error: { mark: '✗', style: 'red' },
};

export class ProgressDisplay {
  readonly #stream: ProgressStream;
  readonly #totalSteps: number;
  readonly #now: () => number;
  readonly #paint: Paint;
  readonly #output: ProgressOutput;
  readonly #clock: StepClock;
  readonly #started: number;
  #record: StepRecord | undefined;
  #validation: ProgressState['validation'];
  #status: string | undefined;
  #fleet: FleetState | undefined;
  #spikes = 0;
  #skipped = 0;
  #ended = false;

  constructor(options: ProgressOptions) {
    this.#stream = options.stream ?? process.stderr;
    this.#totalSteps = options.totalSteps;
    this.#clock = new StepClock(options.workThrough);
    this.#now = options.now ?? (() => performance.now() / 1000);
    const live = this.#stream.isTTY === true && process.env.TERM !== 'dumb';
    this.#paint = painter(live && (options.color ?? !process.env.NO_COLOR));
    this.#started = this.#now();
    this.#output = live
      ? new LiveOutput(this.#stream, () => this.#block())
      : new PlainOutput(this.#stream, {
          everySteps: options.plainEverySteps ?? Math.max(1, Math.round(options.totalSteps / 20)),
          everySeconds: options.plainEverySeconds ?? 10,
          totalSteps: options.totalSteps,
        });
  }

  /** Shows that a step has ended. Its validation loss and spike flag are shown too. */
  step(record: StepRecord): void {
    if (this.#ended) return;
    const now = this.#now();
    this.#clock.tick(record.step, now);
    this.#record = record;
    this.#status = undefined;
    if (record.spike) this.#spikes++;
    if (!record.applied) this.#skipped++;
    if (record.validationLoss !== undefined)
      this.#validation = { step: record.step, loss: record.validationLoss };
    this.#output.step(() => this.#state(now), record, now);
  }

  /** Shows a validation loss, nats a token, that was measured after `step` had been shown. */
  validation(step: number, loss: number): void {
    if (this.#ended) return;
    this.#validation = { step, loss };
    this.#status = undefined;
    this.#output.validation(renderValidationLine(step, this.#totalSteps, loss));
  }

  /** Says what the run is busy with until the next step, such as `validating`; on a terminal only. */
  status(text: string | undefined): void {
    if (this.#ended) return;
    this.#status = text === undefined ? undefined : printable(text).replaceAll('\n', ' ');
    this.#output.refresh();
  }

  /** Shows the hosts of a run that has several; on a terminal only. */
  fleet(state: FleetState): void {
    if (this.#ended) return;
    this.#fleet = state;
    this.#output.refresh();
  }

  /** Prints a message that stays, above the live block. Control sequences in it are taken out. */
  message(text: string, kind: MessageKind = 'info'): void {
    const { mark, style } = MESSAGE_MARKS[kind];
    const [first = '', ...rest] = printable(text).split('\n');
    const lines = [`${this.#paint(style, mark)} ${first}`, ...rest.map((line) => `  ${line}`)];
    this.#output.message(lines.join('\n'));
  }

  /** Leaves the last state on the screen and gives the cursor back. Messages still work, the rest does nothing. */
  end(): void {
    if (this.#ended) return;
    this.#status = undefined;
    this.#output.end();
    this.#ended = true;
  }

  #state(now: number): ProgressState {
    return {
      record: this.#record!,
      totalSteps: this.#totalSteps,
      validation: this.#validation,
      secondsLeft: this.#clock.secondsLeft(this.#totalSteps, now),
      secondsElapsed: now - this.#started,
      spikes: this.#spikes,
      skipped: this.#skipped,
      status: this.#status,
      fleet: this.#fleet,
    };
  }

  #block(): string | undefined {
    if (this.#record === undefined) return this.#status && this.#paint('dim', this.#status);
    return renderBlock(this.#state(this.#now()), this.#stream.columns ?? 80, this.#paint);
  }
}

/** One way of showing progress on a stream. */
interface ProgressOutput {
  step(state: () => ProgressState, record: StepRecord, now: number): void;
  validation(line: string): void;
  refresh(): void;
  message(text: string): void;
  end(): void;
}

/** A block that is redrawn in place, a few times a second at most. */
class LiveOutput implements ProgressOutput {
  readonly #stream: ProgressStream;
  readonly #draw: () => string | undefined;
  readonly #update: ReturnType<typeof createLogUpdate>;
  readonly #forgetExit: () => void;
  readonly #ticker: NodeJS.Timeout;
  #pending: NodeJS.Timeout | undefined;
  #lastDraw = Number.NEGATIVE_INFINITY;
  #ended = false;

  constructor(stream: ProgressStream, draw: () => string | undefined) {
    this.#stream = stream;
    this.#draw = draw;
    // The library would hide and show the cursor of standard error whatever stream it is given.
    this.#update = createLogUpdate(stream, { showCursor: true });
    stream.write(HIDE_CURSOR);
    this.#forgetExit = onExit(() => this.#restoreCursor(), { alwaysLast: true });
    this.#ticker = setInterval(() => this.#redraw(), TICK_MILLISECONDS);
    this.#ticker.unref();
    process.on('SIGTSTP', this.#suspend);
    process.on('SIGCONT', this.#goOn);
  }

  /** Ctrl-Z: the shell that takes over the terminal gets its cursor, and writes below the block. */
  readonly #suspend = (): void => {
    this.#update.done();
    this.#restoreCursor();
    process.kill(process.pid, 'SIGSTOP');
  };

  readonly #goOn = (): void => {
    this.#stream.write(HIDE_CURSOR);
    this.#redraw();
  };

  step(): void {
    this.refresh();
  }

  validation(): void {
    this.refresh();
  }

  refresh(): void {
    if (this.#ended || this.#pending !== undefined) return;
    const wait = this.#lastDraw + REDRAW_MILLISECONDS - performance.now();
    if (wait <= 0) {
      this.#redraw();
      return;
    }
    this.#pending = setTimeout(() => this.#redraw(), wait);
    this.#pending.unref();
  }

  message(text: string): void {
    if (this.#ended) {
      this.#stream.write(`${text}\n`);
      return;
    }
    this.#update.persist(text);
    this.#redraw();
  }

  end(): void {
    this.#redraw();
    this.#ended = true;
    clearInterval(this.#ticker);
    process.off('SIGTSTP', this.#suspend);
    process.off('SIGCONT', this.#goOn);
    this.#update.done();
    this.#restoreCursor();
    this.#forgetExit();
  }

  #redraw(): void {
    clearTimeout(this.#pending);
    this.#pending = undefined;
    this.#lastDraw = performance.now();
    const block = this.#draw();
    if (block !== undefined) this.#update(block);
  }

  #restoreCursor(): void {
    this.#stream.write(SHOW_CURSOR);
  }
}

/** Plain lines, for log files: at fixed steps, after some seconds, and whenever something happened. */
class PlainOutput implements ProgressOutput {
  readonly #stream: ProgressStream;
  readonly #options: { everySteps: number; everySeconds: number; totalSteps: number };
  #lastLine = Number.NEGATIVE_INFINITY;

  constructor(
    stream: ProgressStream,
    options: { everySteps: number; everySeconds: number; totalSteps: number },
  ) {
    this.#stream = stream;
    this.#options = options;
  }

  step(state: () => ProgressState, record: StepRecord, now: number): void {
    const { everySteps, everySeconds, totalSteps } = this.#options;
    const due =
      record.step % everySteps === 0 || record.step === totalSteps || now - this.#lastLine >= everySeconds;
    const eventful = record.validationLoss !== undefined || record.spike || !record.applied;
    if (!due && !eventful) return;
    this.#lastLine = now;
    this.#stream.write(`${renderPlainLine(state())}\n`);
  }

  validation(line: string): void {
    this.#stream.write(`${line}\n`);
  }

  refresh(): void {}

  message(text: string): void {
    this.#stream.write(`${text}\n`);
  }

  end(): void {}
}
