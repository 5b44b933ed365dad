/** The OpenTelemetry collector of a run, as its configuration and the standard variables name it. */

import { basename } from 'node:path';
import { SluiceError } from '@sluice/core';
import type { CollectorAccess } from '@sluice/observe';
import type { RunConfig } from '@sluice/train';
import { isHttpAddress, readSecret } from '../run/secrets.ts';

/** The protocol's own, ms. */
const USUAL_LIMIT_MS = 10_000;

/**
 * Variables: opentelemetry.io/docs/specs/otel/protocol/exporter/.
 * @returns undefined where no collector is given, or no step has a timeline
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_USAGE
 */
export function collectorOf(
  runPath: string,
  { name, observe, diagnostics }: RunConfig,
  environment: NodeJS.ProcessEnv,
): CollectorAccess | undefined {
  const of = (key: string) =>
    environment[`OTEL_EXPORTER_OTLP_TRACES_${key}`] ?? environment[`OTEL_EXPORTER_OTLP_${key}`];
  const base = observe?.otlp?.url ?? environment.OTEL_EXPORTER_OTLP_ENDPOINT;
  const url = observe?.otlp?.url
    ? tracesOf(observe.otlp.url)
    : (environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base && tracesOf(base)));
  if (!url || diagnostics.timelineEverySteps === 0 || environment.OTEL_SDK_DISABLED === 'true')
    return undefined;
  if (!isHttpAddress(url)) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `OTEL_EXPORTER_OTLP_ENDPOINT holds no address of a collector (http://… or https://…): ${url}.`,
    );
  }
  const limitMs = Number(of('TIMEOUT'));
  return {
    url,
    headers: { ...pairsOf(of('HEADERS')), ...headersIn(observe?.otlp?.headersFile) },
    limitMs: limitMs > 0 ? limitMs : USUAL_LIMIT_MS,
    attributes: {
      ...pairsOf(environment.OTEL_RESOURCE_ATTRIBUTES),
      ...(environment.OTEL_SERVICE_NAME && { 'service.name': environment.OTEL_SERVICE_NAME }),
      'sluice.run': name ?? basename(runPath),
    },
  };
}

function tracesOf(base: string): string {
  return `${base.replace(/\/+$/, '')}/v1/traces`;
}

/** `name=value,name=value`, the values percent-encoded. */
function pairsOf(text = ''): Record<string, string> {
  const pairs = namedValues(text.split(','), /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/);
  return Object.fromEntries(pairs.map(([name, value]) => [name, decoded(value)]));
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

function headersIn(file: string | undefined): Record<string, string> {
  if (file === undefined) return {};
  const lines = readSecret(file, 'headers', 'observe.otlp').split('\n');
  return Object.fromEntries(namedValues(lines, /^\s*([^:\s]+)\s*:\s*(.*?)\s*$/));
}

/** @param pattern of a text that names a value, with both as groups; others are left out */
function namedValues(texts: readonly string[], pattern: RegExp): [string, string][] {
  return texts.flatMap((text): [string, string][] => {
    const [, name, value] = pattern.exec(text) ?? [];
    return name === undefined ? [] : [[name, value!]];
  });
}
