/**
 * Encryption and authentication between machines: ZeroMQ CURVE with one key pair for the whole cluster. Whoever
 * listens proves to hold the secret key, and lets in only those who prove it too, through a handler of ZeroMQ's
 * authentication protocol (ZAP, rfc.zeromq.org/spec/27).
 */

import { invariant } from '@sluice/core';
import { type Context, curveKeyPair, Reply } from 'zeromq';
import { receiveAll } from './sockets.ts';

/** A CURVE key pair, each key as 40 characters of Z85. */
export interface CurveKeys {
  readonly publicKey: string;
  readonly secretKey: string;
}

const ZAP_ENDPOINT = 'inproc://zeromq.zap.01';
const Z85 = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#';

/** By how much an encrypted frame is longer than what it holds, bytes (rfc.zeromq.org/spec/26: MESSAGE). */
export const CURVE_OVERHEAD_BYTES = 33;

/** A fresh key pair for a cluster. */
export function generateCurveKeys(): CurveKeys {
  const { publicKey, secretKey } = curveKeyPair();
  return { publicKey, secretKey };
}

/** Options of a socket that listens. */
export function listenerSecurity(keys: CurveKeys | undefined): object {
  return keys === undefined ? {} : { curveServer: true, curveSecretKey: keys.secretKey, zapDomain: 'sluice' };
}

/** Options of a socket that connects. */
export function connectorSecurity(keys: CurveKeys | undefined): object {
  if (keys === undefined) return {};
  return { curveServerKey: keys.publicKey, curvePublicKey: keys.publicKey, curveSecretKey: keys.secretKey };
}

/** Answers, for all listeners of one context, who may come in: only the cluster's own key. */
export class Authenticator {
  readonly #socket: Reply;

  /** Must be started before the context's listeners. */
  static async start(context: Context, keys: CurveKeys): Promise<Authenticator> {
    const socket = new Reply({ context, linger: 0 });
    await socket.bind(ZAP_ENDPOINT);
    return new Authenticator(socket, decodeZ85(keys.publicKey));
  }

  private constructor(socket: Reply, publicKey: Buffer) {
    this.#socket = socket;
    void receiveAll(socket, (version, request, _domain, _address, _identity, mechanism, key) => {
      const known = mechanism?.toString() === 'CURVE' && key !== undefined && key.equals(publicKey);
      const [code, text] = known ? ['200', 'OK'] : ['400', 'Unknown key'];
      return socket.send([version ?? '1.0', request ?? '', code, text, '', '']);
    });
  }

  close(): void {
    this.#socket.close();
  }
}

/** Z85 (rfc.zeromq.org/spec/32): five characters hold four bytes. */
function decodeZ85(text: string): Buffer {
  invariant(text.length === 40, 'a CURVE key has 40 characters');
  const bytes = Buffer.alloc(32);
  for (let i = 0; i < text.length; i += 5) {
    let value = 0;
    for (const character of text.slice(i, i + 5)) value = value * 85 + Z85.indexOf(character);
    bytes.writeUInt32BE(value, (i / 5) * 4);
  }
  return bytes;
}
