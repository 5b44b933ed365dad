"""The work of some kernels by PyTorch: cuBLAS for products, its fastest attention. Reads a JSON list of cases from standard input, each a
`Yardstick` of `src/cuda/cases/rates.ts` and the `case` that it belongs to. Writes a line of JSON with the versions, or why there is
none, and one for each case: milliseconds by the card's clock, medians."""

import json
import statistics
import sys

try:
    import torch
except ImportError as error:
    print(json.dumps({"absence": str(error)}))
    sys.exit()

LEAST_MS, REPETITIONS = 3.0, 11


def median_ms(run):
    def timed(count):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / count

    timed(1)
    runs = min(1000, max(1, int(LEAST_MS / max(timed(1), 1e-3)) + 1))
    return statistics.median(timed(runs) for _ in range(REPETITIONS))


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def product(case):
    """As the kernels' layouts: x·Wᵀ, dy·W, dyᵀ·x. Results are bf16: cuBLAS gives float by way of `out_dtype` in new versions only."""
    M, N, K = case["shape"]
    if case["name"] == "matmul":
        a, b = random(M, K), random(N, K).t()
    elif case["name"] == "matmulPlain":
        a, b = random(M, K), random(K, N)
    else:
        a, b = random(K, M).t(), random(K, N)
    y = torch.empty(M, N, device="cuda", dtype=torch.bfloat16)
    return {"cuBLAS": median_ms(lambda: torch.mm(a, b, out=y))}


def attention(case):
    """Each of PyTorch's ways by itself; keys and values are repeated for the heads that share them, outside of what is timed."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    of = case["shape"]
    q, k, v = (random(of["batch"], of["heads"], of["sequence"], of["headDim"]).requires_grad_() for _ in range(3))
    found = {}
    for name, way in (("flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
        try:
            with sdpa_kernel(way):
                forward = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                if not case["isBackward"]:
                    with torch.no_grad():
                        found[name] = median_ms(forward)
                    continue
                y = forward()
                dy = torch.randn_like(y)
                found[name] = median_ms(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
        except RuntimeError as error:
            print(f"{name} attention: {error}".splitlines()[0], file=sys.stderr)
    return found


if not torch.cuda.is_available():
    print(json.dumps({"absence": f"PyTorch {torch.__version__} sees no GPU"}))
    sys.exit()
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda}), flush=True)
for case in json.load(sys.stdin):
    try:
        ms = {"product": product, "attention": attention}[case["kind"]](case)
        print(json.dumps({"case": case["case"], "ms": ms}), flush=True)
    except Exception as error:  # the next case may do
        print(json.dumps({"case": case["case"], "error": str(error).splitlines()[0]}), flush=True)
