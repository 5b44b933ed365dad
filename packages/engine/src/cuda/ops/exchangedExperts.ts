/**
 * Experts that several devices hold. All is asked for at once, and what waits for others is the device: own rows are computed while others
 * go to their experts; while others come back, gradients of weights are, and forward whatever comes before the first use of the result. No
 * bit depends on it. By way of the host, this waits for what it sends and what it receives, and the device computes the same meanwhile.
 *
 * Shapes: M own rows, by the peer of their expert; F rows of other peers for own experts; C channels, I hidden units of an expert.
 */

import { implementFused } from '../../fused.ts';
import {
  EXCHANGED_EXPERTS,
  type ExchangedExperts,
  guestsOf,
  ownRows,
  type RowRange,
  type StartExchange,
} from '../../ops/exchangedExperts.ts';
import { cudaBackend } from '../backend.ts';
import { type Activations, bytesOf } from '../device.ts';
import { HostRows } from '../expertRows.ts';
import {
  checkExperts,
  contributeExpertRows,
  expertRowsBackward,
  expertRowsForward,
} from './expertComputation.ts';

implementFused('cuda', EXCHANGED_EXPERTS, {
  forward({ input, shape, output, saved, attributes }) {
    checkExperts(attributes);
    const { kept, received, down } = attributes;
    const start = starter(attributes);
    const [width, units] = [shape('rows')[1]!, down.shape[2]!];
    const { own, ownSegments, away } = ownRows(attributes);
    const rows = input('rows');
    const y = output(shape('rows'));
    const part = (values: Activations) => rowsOf(values, own, width);
    const made = (of: string, count: number) => ({
      preactivations: saved.activations(`${of} preactivations`, count * 2 * units),
      hidden: saved.activations(`${of} hidden`, count * units),
    });

    const plan = guestsOf(attributes, received.wait());
    kept.guests = plan;
    const { guests, guestSegments, numGuests } = plan;
    const guestRows = saved.activations('guests', numGuests * width);
    const arrival = start(rows, away, guestRows, guests, width);
    const ofOwn = made('own', own.end - own.begin);
    expertRowsForward(part(rows), new HostRows(rows.device, ownSegments), attributes, {
      ...ofOwn,
      y: part(y.values),
    });
    saved.free('own hidden');

    const ofGuests = made('guest', numGuests);
    const sent = output([numGuests, width]);
    arrival.wait();
    expertRowsForward(guestRows, new HostRows(rows.device, guestSegments), attributes, {
      ...ofGuests,
      y: sent.values,
    });
    saved.free('guest hidden');
    const back = start(sent.values, guests, y.values, away, width);
    cudaBackend().expect(y.info, () => {
      back.wait();
      cudaBackend().disposeData(sent.info.dataId);
    });
    return y.info;
  },
  backward({ valuesOf, tensor, saved, attributes }, [dyTensor], [rowsTensor]) {
    const { kept, down, rank, peers } = attributes;
    const start = starter(attributes);
    const [width, units] = [dyTensor!.shape[1]!, down.shape[2]!];
    const { own, ownSegments, away } = ownRows(attributes);
    const { guests, guestSegments, numGuests } = kept.guests!;
    const dy = valuesOf(dyTensor!);
    const dx = tensor(dyTensor!.shape);
    const part = (values: Activations) => rowsOf(values, own, width);
    const dyGuests = saved.activations('dy', numGuests * width);
    const dxGuests = saved.activations('dx', numGuests * width);

    const arrival = start(dy, away, dyGuests, guests, width);
    const ofOwn = {
      x: part(valuesOf(rowsTensor!)),
      preactivations: saved.activations('own preactivations'),
      hidden: saved.activations('own hidden', (own.end - own.begin) * units),
      dy: part(dy),
    };
    const ownExperts = new HostRows(dy.device, ownSegments);
    expertRowsBackward(ofOwn, ownExperts, attributes, part(dx.values));

    arrival.wait();
    const ofGuests = {
      x: saved.activations('guests'),
      preactivations: saved.activations('guest preactivations'),
      hidden: saved.activations('guest hidden', numGuests * units),
      dy: dyGuests,
    };
    const guestExperts = new HostRows(dy.device, guestSegments);
    expertRowsBackward(ofGuests, guestExperts, attributes, dxGuests);
    const back = start(dxGuests, guests, dx.values, away, width);
    contributeExpertRows(ofOwn, ownExperts, attributes, [rank]);
    const others = Array.from({ length: peers }, (_, peer) => peer).filter((peer) => peer !== rank);
    contributeExpertRows(ofGuests, guestExperts, attributes, others);
    back.wait();
    return { rows: dx.tensor };
  },
});

/** What sends rows: the devices, or the hosts. */
function starter({ start, startOnDevice }: ExchangedExperts): StartExchange<Activations> {
  return startOnDevice ?? byHost(start);
}

/** Rows go as they are stored: of bf16, two in each of the floats that hosts send. */
function byHost(start: StartExchange): StartExchange<Activations> {
  return (sent, rowsToPeer, received, rowsFromPeer, width) => {
    const bytes = width * bytesOf(sent.storage);
    const onHost = ({ length }: Activations) => new Float32Array((length / width) * (bytes / 4));
    const [there, here] = [onHost(sent), onHost(received)];
    for (const range of filled(rowsToPeer))
      rowsOf(sent, range, width).readInto(copyOf(sent, there, range, bytes));
    const arrival = start(there, rowsToPeer, here, rowsFromPeer, bytes / 4);
    return {
      get done() {
        return arrival.done;
      },
      wait() {
        arrival.wait();
        for (const range of filled(rowsFromPeer))
          rowsOf(received, range, width).write(copyOf(received, here, range, bytes));
      },
    };
  };
}

function filled(ranges: readonly RowRange[]): RowRange[] {
  return ranges.filter(({ begin, end }) => begin < end);
}

function rowsOf(values: Activations, { begin, end }: RowRange, width: number): Activations {
  return values.subarray(begin * width, end * width);
}

/** Where rows of `bytes` each are on the host, in the type in which it has such values. */
function copyOf(
  { storage }: Activations,
  { buffer }: Float32Array<ArrayBuffer>,
  { begin, end }: RowRange,
  bytes: number,
): Float32Array | Uint16Array {
  const Values = storage === 'bf16' ? Uint16Array : Float32Array;
  return new Values(buffer, begin * bytes, ((end - begin) * bytes) / bytesOf(storage));
}
