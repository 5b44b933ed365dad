/** Handing something to a server over HTTP. */

export interface Parcel {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array<ArrayBuffer>;
  /** How long it may take, ms. */
  readonly limitMs: number;
}

/**
 * Posts a body. The address may be a secret: no message has more of it than its host.
 * @returns why it could not be brought, in a sentence
 */
export async function post(url: string, { headers, body, limitMs }: Parcel): Promise<string | undefined> {
  const { host } = new URL(url);
  try {
    const signal = AbortSignal.timeout(limitMs);
    const response = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'error' });
    await response.body?.cancel();
    return response.ok ? undefined : `${host} answered with ${response.status}.`;
  } catch (error) {
    const cause = (error as { cause?: { code?: string } }).cause?.code;
    return `${host} did not answer (${cause ?? (error as Error).name}).`;
  }
}
