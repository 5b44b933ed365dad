/** Tells people of what the journal is told, as the configuration has it. */

import { basename } from 'node:path';
import { SluiceError } from '@sluice/core';
import { Messenger, type NoticePlace } from '@sluice/observe';
import type { NOTIFIED_EVENTS, NotifyConfig, RunConfig } from '@sluice/train';
import { type Journal, type JournalEntry, type JournalKind, timeNow } from '../run/journal.ts';
import { isHttpAddress, readSecret } from '../run/secrets.ts';
import { storyOf } from '../run/story.ts';

type EventName = (typeof NOTIFIED_EVENTS)[number];

/** At its end, a run waits that long for notices, ms. */
const CLOSE_LIMIT_MS = 5000;

const EVENTS: Partial<Record<JournalKind, EventName>> = {
  start: 'start',
  resume: 'start',
  spike: 'spike',
  rollback: 'rollback',
  restart: 'fault',
  recheck: 'fault',
  saveFailed: 'fault',
  stall: 'fault',
  stop: 'end',
};

/** One of those that are told. */
interface Listener {
  readonly events: ReadonlySet<EventName>;
  readonly quietMs: number;
  readonly messenger: Pick<Messenger, 'send' | 'close'>;
  /** When a spike was told last, and spikes that were not told since. */
  spikeAt: number | undefined;
  untold: number;
}

export class Notifier {
  readonly #run: string;
  readonly #listeners: readonly Listener[];
  readonly #now: () => number;

  constructor(
    run: string,
    listeners: readonly Pick<Listener, 'events' | 'quietMs' | 'messenger'>[],
    now: () => number = () => performance.now(),
  ) {
    this.#run = run;
    this.#listeners = listeners.map((one) => ({ ...one, spikeAt: undefined, untold: 0 }));
    this.#now = now;
  }

  /** What the journal is told from now on is told here too. */
  listenTo(journal: Journal): Journal {
    if (this.#listeners.length === 0) return journal;
    const hear = (kind: JournalKind, step: number, fields: object) =>
      this.#hear({ kind, step, time: timeNow(), ...fields } as JournalEntry);
    return {
      get length() {
        return journal.length;
      },
      append(kind, step, fields) {
        journal.append(kind, step, fields);
        hear(kind, step, fields);
      },
      note(kind, step, fields) {
        journal.note(kind, step, fields);
        hear(kind, step, fields);
      },
      close: () => journal.close(),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.#listeners.map(({ messenger }) => messenger.close(CLOSE_LIMIT_MS)));
  }

  #hear(entry: JournalEntry): void {
    const event = EVENTS[entry.kind];
    const [told] = event === undefined ? [] : storyOf([entry]);
    if (event === undefined || told === undefined) return;
    const { step, time } = entry;
    const isBad = told.tone === 'warning' || told.tone === 'error';
    for (const listener of this.#listeners) {
      if (!listener.events.has(event)) continue;
      const more = event === 'spike' ? this.#untoldSpikes(listener) : '';
      if (more === undefined) continue;
      listener.messenger.send({ event, run: this.#run, step, time, text: `${told.text}${more}`, isBad });
    }
  }

  /** Spikes come in flocks: undefined where one was told of just now; else how many were not, in words. */
  #untoldSpikes(listener: Listener): string | undefined {
    const { spikeAt, quietMs } = listener;
    if (spikeAt !== undefined && this.#now() - spikeAt < quietMs) {
      listener.untold++;
      return undefined;
    }
    const { untold } = listener;
    listener.spikeAt = this.#now();
    listener.untold = 0;
    return untold === 0 ? '' : ` ${untold} more were not told since the one before.`;
  }
}

/**
 * @param log told of what cannot be brought
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_USAGE where an address or a token is not to be had: better before training than never
 */
export function openNotifier(runPath: string, config: RunConfig, log: (line: string) => void): Notifier {
  const listeners = (config.observe?.notify ?? []).map((one) => ({
    events: new Set(one.on),
    quietMs: one.quietSeconds * 1000,
    messenger: new Messenger(placeOf(one), { warn: log }),
  }));
  return new Notifier(config.name ?? basename(runPath), listeners);
}

/** The same for a run that goes on, perhaps by itself at night: it is not kept from that. */
export function openNotifierIfPossible(
  runPath: string,
  config: RunConfig,
  log: (line: string) => void,
): Notifier {
  try {
    return openNotifier(runPath, config, log);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    log(`nobody is told of what happens: ${error.message}`);
    return new Notifier(runPath, []);
  }
}

function placeOf(config: NotifyConfig): NoticePlace {
  const { command, template, urlFile, urlVariable, tokenFile, tokenVariable } = config;
  if (command) return { command };
  const url = secret('address', urlFile, urlVariable)!;
  if (!isHttpAddress(url)) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${urlFile ?? urlVariable} holds no address of a server (http://… or https://…).`,
    );
  }
  return { url, token: secret('token', tokenFile, tokenVariable), template };
}

function secret(what: string, file: string | undefined, variable: string | undefined): string | undefined {
  if (file !== undefined) return readSecret(file, what, 'observe.notify');
  if (variable === undefined) return undefined;
  const value = process.env[variable];
  if (value) return value;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `The environment variable ${variable} is not set, which observe.notify takes the ${what} from.`,
  );
}
