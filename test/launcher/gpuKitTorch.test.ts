/** The kit’s step with PyTorch, which a few lines of Python stand in for. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { KitContext, RunStep } from '../../launcher/src/gpuKit/step.ts';
import { programOutput } from '../../launcher/src/run/programOutput.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** What `yardsticks.py` calls, and nothing that computes: every run takes half a millisecond. */
const STAND_IN = `
__version__ = "0.0"
bfloat16 = "bfloat16"
class version: cuda = "none"
class Tensor:
    def __init__(self, *shape): self.shape = shape
    def t(self): return Tensor(*reversed(self.shape))
    def requires_grad_(self): return self
runs = 0
def count():
    global runs
    runs += 1
class Event:
    def __init__(self, enable_timing): pass
    def record(self): self.runs = runs
    def synchronize(self): pass
    def elapsed_time(self, end): return 0.5 * (end.runs - self.runs)
class cuda:
    Event = Event
    is_available = staticmethod(lambda: HAS_GPU)
def randn(*shape, device, dtype): return Tensor(*shape)
def empty(*shape, device, dtype): return Tensor(*shape)
def randn_like(x): return x
def mm(a, b, out):
    if a.shape[1] != b.shape[0] or out.shape != (a.shape[0], b.shape[1]): raise ValueError("shapes")
    count()
class no_grad:
    def __enter__(self): pass
    def __exit__(self, *rest): pass
class autograd:
    @staticmethod
    def grad(y, inputs, dy, retain_graph): count()
`;
const FUNCTIONS = `
class functional:
    @staticmethod
    def scaled_dot_product_attention(q, k, v, is_causal):
        import torch
        torch.count()
        return q
`;
const ATTENTION = `
from contextlib import nullcontext
class SDPBackend: FLASH_ATTENTION, CUDNN_ATTENTION = 1, 2
def sdpa_kernel(way):
    if way == 2: raise RuntimeError("no cuDNN here")
    return nullcontext()
`;

function context(t: ExecutionContext): KitContext {
  const rates = { kernels: [{ name: 'product, 128 × 128 × 128', ms: 0.25 }] };
  const logged: string[] = [];
  return {
    ...{ scale: 'tiny', isEmulated: false, folder: temporaryDirectory(t), earlier: { rates } },
    ...{ endsAtMs: Number.POSITIVE_INFINITY, keep() {}, log: (line) => logged.push(line) },
  };
}

const hasPython = programOutput('python3', ['-c', 'print(1)']) === '1';
const withPython = hasPython ? test.serial : test.serial.skip;

/** The step, by a Python that finds a torch in the folder. */
async function stepWith(t: ExecutionContext, hasGpu: boolean): Promise<ReturnType<RunStep>> {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, 'torch/nn'), { recursive: true });
  writeFileSync(join(folder, 'torch/__init__.py'), `HAS_GPU = ${hasGpu ? 'True' : 'False'}${STAND_IN}`);
  mkdirSync(join(folder, 'torch/nn/attention'));
  writeFileSync(join(folder, 'torch/nn/__init__.py'), FUNCTIONS);
  writeFileSync(join(folder, 'torch/nn/attention/__init__.py'), ATTENTION);
  process.env.PYTHONPATH = folder;
  const { runStep } = await import('../../launcher/src/gpuKit/steps/torch.ts');
  return runStep(context(t));
}

withPython(
  'products and attention of the rates are measured and compared, and what a library lacks is left out',
  async (t) => {
    const { verdict, summary, data, text } = await stepWith(t, true);
    t.is(verdict, 'right', JSON.stringify(data));
    const compared = data.compared as { name: string; library: string; theirs: number; ours?: number }[];
    t.deepEqual([...new Set(compared.map(({ library }) => library))], ['cuBLAS', 'flash']);
    t.true(compared.every(({ theirs }) => theirs === 0.5));
    t.regex(text!, /product, 128 × 128 × 128 +cuBLAS +0\.5000 +0\.2500 +2\.00/);
    t.regex(summary, /^\d+ measurements by PyTorch 0\.0$/);
  },
);

withPython('a PyTorch without a GPU is a reason to skip', async (t) => {
  const { verdict, summary } = await stepWith(t, false);
  t.deepEqual({ verdict, summary }, { verdict: 'skipped', summary: 'PyTorch 0.0 sees no GPU' });
});
