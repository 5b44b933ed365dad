/** MLflow's REST interface (mlflow.org/docs/latest/rest-api.html), as much of it as tells a server of one run. */

import { SluiceError } from '@sluice/core';

export interface MlflowMetric {
  readonly key: string;
  readonly value: number;
  /** ms since 1970. */
  readonly timestamp: number;
  readonly step: number;
}

export interface MlflowAccess {
  readonly url: string;
  /** `Bearer …` or `Basic …`; a secret. */
  readonly authorization?: string | undefined;
  /** How long one request may take, ms. */
  readonly limitMs?: number;
}

/** What one request may hold. */
const MOST_METRICS = 1000;
const MOST_PARAMETERS = 100;
/** Characters of a parameter's value that every server takes. */
const PARAMETER_CHARACTERS = 500;

export class MlflowClient {
  readonly #access: MlflowAccess;

  constructor(access: MlflowAccess) {
    this.#access = access;
  }

  /** The id of an experiment, which is made if need be. @throws SLUICE_E_SERVER_UNREACHABLE, here and below */
  async experiment(name: string): Promise<string> {
    const path = `experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`;
    const found = (await this.#ask('GET', path, undefined, 404)) as {
      experiment?: { experiment_id: string };
    };
    if (found.experiment) return found.experiment.experiment_id;
    const made = (await this.#ask('POST', 'experiments/create', { name })) as { experiment_id: string };
    return made.experiment_id;
  }

  /** @returns the id of a new run */
  async createRun(experimentId: string, name: string, startTime: number): Promise<string> {
    const body = { experiment_id: experimentId, run_name: name, start_time: startTime, tags: TAGS };
    const { run } = (await this.#ask('POST', 'runs/create', body)) as { run: { info: { run_id: string } } };
    return run.info.run_id;
  }

  async logParameters(runId: string, values: Readonly<Record<string, unknown>>): Promise<void> {
    const params = Object.entries(values).map(([key, value]) => ({
      key,
      value: String(value).slice(0, PARAMETER_CHARACTERS),
    }));
    for (let start = 0; start < params.length; start += MOST_PARAMETERS) {
      const batch = params.slice(start, start + MOST_PARAMETERS);
      await this.#ask('POST', 'runs/log-batch', { run_id: runId, params: batch });
    }
  }

  async logMetrics(runId: string, metrics: readonly MlflowMetric[]): Promise<void> {
    for (let start = 0; start < metrics.length; start += MOST_METRICS) {
      const batch = metrics.slice(start, start + MOST_METRICS);
      await this.#ask('POST', 'runs/log-batch', { run_id: runId, metrics: batch });
    }
  }

  async update(runId: string, status: MlflowStatus, endTime?: number): Promise<void> {
    await this.#ask('POST', 'runs/update', {
      run_id: runId,
      status,
      ...(endTime !== undefined && { end_time: endTime }),
    });
  }

  /** @param accepted a status beside success that is an answer too */
  async #ask(method: string, path: string, body: object | undefined, accepted?: number): Promise<unknown> {
    const { url, authorization, limitMs = 15_000 } = this.#access;
    const { host } = new URL(url);
    let response: Response;
    try {
      response = await fetch(`${url.replace(/\/+$/, '')}/api/2.0/mlflow/${path}`, {
        ...{ method, redirect: 'error', signal: AbortSignal.timeout(limitMs) },
        headers: {
          'Content-Type': 'application/json',
          ...(authorization && { Authorization: authorization }),
        },
        ...(body && { body: JSON.stringify(body) }),
      });
    } catch (error) {
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).name;
      throw unreachable(host, `does not answer (${cause})`);
    }
    if (response.status === accepted) {
      await response.body?.cancel();
      return {};
    }
    const text = await response.text();
    if (!response.ok) throw unreachable(host, `answers with ${response.status}: ${text.slice(0, 200)}`);
    try {
      return JSON.parse(text);
    } catch {
      throw unreachable(host, 'answers with what is no JSON');
    }
  }
}

export type MlflowStatus = 'RUNNING' | 'FINISHED' | 'FAILED' | 'KILLED';

const TAGS = [{ key: 'mlflow.source.name', value: 'sluice' }];

function unreachable(host: string, how: string): SluiceError {
  return new SluiceError('SLUICE_E_SERVER_UNREACHABLE', `The MLflow server ${host} ${how}.`, {
    details: { host },
  });
}
