/**
 * Shows runs to browsers, from their files, while they go on and afterwards. It only reads; runs are named by ids of the catalog,
 * so that no address leads to any other file.
 */

import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SluiceError } from '@sluice/core';
import { renderReport } from '../report/report.ts';
import { admit, isLoopback, refuse } from './access.ts';
import type { Catalog, WatchedRun } from './catalog.ts';
import { EventStream } from './eventStream.ts';
import { Followers } from './followers.ts';
import { RunList } from './runList.ts';
import { type Asset, loadShell } from './shell.ts';
import { streamOverview, streamRun } from './streams.ts';

/** Pages that look at once. */
const MOST_STREAMS = 64;

/** What the targets of requests are relative to. */
const BASE = 'http://localhost';

/** Nothing from elsewhere, nothing inline; no other site may show the page or read what is served. */
const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** A report brings its scripts with it: it is shown as if it came from nowhere, and reaches nothing here. */
const REPORT_HEADERS = {
  ...HEADERS,
  'Content-Security-Policy':
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts",
};

export interface WatchServerOptions {
  readonly catalog: Catalog;
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  /** What a visitor must have; must be given where the host is not this machine alone. */
  readonly token?: string | undefined;
}

export interface WatchServer {
  /** Where to look, with the token. */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/** @throws SLUICE_E_PORT_TAKEN */
export async function startWatchServer({
  catalog,
  host,
  port,
  token,
}: WatchServerOptions): Promise<WatchServer> {
  const site = new Site(catalog, await loadShell());
  const server = createServer((request, response) => {
    const target = request.url ?? '/';
    if (!URL.canParse(target, BASE)) return refuse(response, 400, 'That is no address.');
    const url = new URL(target, BASE);
    if (admit(request, response, url, token) !== 'admitted') return;
    site.answer(request, response, url).catch((error) => {
      if (!response.headersSent) refuse(response, 500, String((error as Error).message));
      else response.destroy();
    });
  });
  await listen(server, host, port);
  const address = server.address() as AddressInfo;
  const name = host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${isLoopback(host) ? 'localhost' : name}:${address.port}/${token === undefined ? '' : `?token=${token}`}`,
    port: address.port,
    async close() {
      site.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new SluiceError(
          'SLUICE_E_PORT_TAKEN',
          `Cannot listen at ${host}, port ${port}: ${error.code === 'EADDRINUSE' ? 'another process does' : error.message}.`,
          { details: { host, port, errno: error.code } },
        ),
      ),
    );
    server.listen(port, host, resolve);
  });
}

class Site {
  readonly #catalog: Catalog;
  readonly #shell: ReadonlyMap<string, Asset>;
  readonly #followers = new Followers();
  readonly #list = new RunList();
  readonly #streams = new Set<EventStream>();

  constructor(catalog: Catalog, shell: ReadonlyMap<string, Asset>) {
    this.#catalog = catalog;
    this.#shell = shell;
  }

  async answer(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      return refuse(response, 405, 'This page only shows.');
    }
    const asset = this.#shell.get(url.pathname);
    if (asset) return sendAsset(request, response, asset);
    if (url.pathname === '/events') return this.#stream(request, response, url);
    if (url.pathname === '/runs.json') {
      const runs = await this.#list.list(this.#catalog.runs());
      return send(response, 'application/json', JSON.stringify({ runs }));
    }
    const report = /^\/(runs|experiments)\/([\w-]+)\/report\.html$/.exec(url.pathname);
    const html = report && (await this.#report(report[1]!, report[2]!));
    if (html) return send(response, 'text/html; charset=utf-8', html, REPORT_HEADERS);
    refuse(response, 404, 'There is nothing here.');
  }

  close(): void {
    for (const stream of this.#streams) stream.close();
    this.#followers.close();
  }

  /** A run's page as one file, as of now, or an experiment's as it was written. */
  async #report(kind: string, id: string): Promise<string | undefined> {
    if (kind === 'runs') {
      const run = this.#run(id);
      return run && renderReport(run.path, await run.facts());
    }
    const experiment = this.#catalog.experiments().find((one) => one.id === id);
    return experiment?.report && readFile(experiment.report, 'utf8');
  }

  #run(id: string | null): WatchedRun | undefined {
    return this.#catalog.runs().find((run) => run.id === id);
  }

  async #stream(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    if (this.#streams.size >= MOST_STREAMS) {
      return refuse(response, 503, `${MOST_STREAMS} pages are looking already.`);
    }
    const run = url.searchParams.has('run') ? this.#run(url.searchParams.get('run')) : undefined;
    if (url.searchParams.has('run') && run === undefined)
      return refuse(response, 404, 'There is no such run.');
    const stream = new EventStream(request, response, HEADERS);
    this.#streams.add(stream);
    try {
      const site = { catalog: this.#catalog, followers: this.#followers, list: this.#list };
      if (run) await streamRun(stream, site, run, url.searchParams);
      else await streamOverview(stream, site, url.searchParams);
    } finally {
      stream.close();
      this.#streams.delete(stream);
    }
  }
}

function sendAsset(request: IncomingMessage, response: ServerResponse, asset: Asset): void {
  const isCompressed = /\bgzip\b/.test(String(request.headers['accept-encoding']));
  response.writeHead(200, {
    ...HEADERS,
    'Content-Type': asset.type,
    'Cache-Control': 'no-cache',
    ...(isCompressed && { 'Content-Encoding': 'gzip' }),
  });
  response.end(request.method === 'HEAD' ? undefined : isCompressed ? asset.compressed : asset.plain);
}

function send(response: ServerResponse, type: string, body: string, headers = HEADERS): void {
  response.writeHead(200, { ...headers, 'Content-Type': type, 'Cache-Control': 'no-store' });
  response.end(body);
}
