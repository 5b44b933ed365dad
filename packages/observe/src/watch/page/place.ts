/// <reference lib="dom" />
/** Where the page is: all runs or one, and what is chosen there. It is in the address, so that it can be shared and gone back to. */

/** `#/` and what is chosen, or `#/run/ID`. */
export interface Place {
  readonly run: string | undefined;
  readonly query: URLSearchParams;
}

export function placeNow(): Place {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?', 2);
  return { run: /^run\/([\w-]+)$/.exec(path)?.[1], query: new URLSearchParams(query) };
}

export function addressOf({ run, query }: Place): string {
  const text = query.toString();
  return `#/${run === undefined ? '' : `run/${run}`}${text === '' ? '' : `?${text}`}`;
}

/** Changes what is chosen; undefined takes a choice back. @param keep whether the place before can be gone back to */
export function choosePlace(changes: Readonly<Record<string, string | undefined>>, keep = false): void {
  const { run, query } = placeNow();
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) query.delete(name);
    else query.set(name, value);
  }
  const address = addressOf({ run, query });
  if (keep) history.pushState(null, '', address);
  else history.replaceState(null, '', address);
  dispatchEvent(new Event('sluice-place'));
}

/** The events of the place now; what the page itself draws otherwise does not count. */
export function eventsAddress({ run, query }: Place): string {
  const sent = new URLSearchParams(query);
  for (const own of ['logx', 'logy', 'filter']) sent.delete(own);
  if (run !== undefined) sent.set('run', run);
  return `events?${sent}`;
}

/** Parts that the server sent, and whether it is there. */
export interface PartsListener {
  readonly parts: (changed: Readonly<Record<string, unknown>>) => void;
  readonly connection: (isThere: boolean) => void;
}

/**
 * Listens to the events of an address. A connection that breaks is made again; the server then sends all it has, and the page
 * changes only where that is other than what it shows.
 * @returns ends it
 */
export function listenToParts(address: string, listener: PartsListener): () => void {
  let source: EventSource | undefined;
  let retry: number | undefined;
  const connect = () => {
    source = new EventSource(address);
    source.addEventListener('open', () => listener.connection(true));
    source.addEventListener('parts', (event) =>
      listener.parts(JSON.parse((event as MessageEvent<string>).data)),
    );
    source.addEventListener('error', () => {
      listener.connection(false);
      // After an answer that is no stream, the browser does not try again by itself.
      if (source?.readyState === EventSource.CLOSED) retry = setTimeout(connect, 3000) as unknown as number;
    });
  };
  connect();
  return () => {
    clearTimeout(retry);
    source?.close();
  };
}
