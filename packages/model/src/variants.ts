/** The gates and controls of a layer, sorted out for the attention block. */

import { Parameter } from '@sluice/engine';
import type { Caps } from './controls/control.ts';
import { type ActiveControl, activeControls, controlCaps } from './controls/index.ts';
import { interleavedGate, type NamedGate, namedGates } from './gates/gate.ts';
import type { LayerModel } from './layers.ts';

export interface BlockVariants {
  readonly config: LayerModel;
  /** Those with tensors of their own. */
  readonly gates: readonly NamedGate[];
  readonly controls: readonly ActiveControl[];
  readonly caps: Caps;
  /** What norms of queries and keys multiply by where they have no weights. */
  readonly weightlessNorms: Readonly<Record<'q_norm' | 'k_norm', Parameter>>;
  /** Whether queries, keys or values are changed before their norms, which takes the projection apart. */
  readonly isProjectionShaped: boolean;
  /** Whether a control works on the output of attention before the interleaved gate does. */
  readonly isGateOutsideAttention: boolean;
}

export function blockVariants(config: LayerModel): BlockVariants {
  const gates = namedGates(config);
  const controls = activeControls(config);
  const isBefore = gates.some(({ position }) => ['query', 'key', 'value'].includes(position));
  const hasControl = controls.some(({ control }) => control.attend || control.sdpa);
  return {
    config,
    gates,
    controls,
    caps: controlCaps(config),
    weightlessNorms: {
      q_norm: Parameter.filled('q_norm', [config.headDim], config.queryScale ?? 1),
      k_norm: Parameter.filled('k_norm', [config.headDim], 1),
    },
    isProjectionShaped:
      isBefore || config.qkNorm === 'all-heads' || controls.some(({ control }) => control.merge),
    isGateOutsideAttention: interleavedGate(config) !== 'none' && hasControl,
  };
}
