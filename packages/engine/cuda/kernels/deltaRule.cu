/**
 * The recurrence of delta rules, one token after the other, in single precision: S ← e^g ⊙ S, u = β·(v − Sᵀk), S ← S + k·uᵀ, o = Sᵀq·scale,
 * each document from a state of zeros. Shapes: N tokens, H heads, Dk channels of a key, Dv of a value; q, k [N, H, Dk]; v, y [N, H, Dv];
 * β [N, H]; g [N, H, Dk], or [N, H, 1] for all channels; states [Q, H, Dk, Dv], before each chunk of 32 tokens, which are counted from
 * a document's first token; documents [3·(documents + 1)]: the first row of each, and the number of its first chunk, and a zero.
 *
 * A sum over rows of the state is formed by groups of threads, from first to last in each, and joined from first to last; a sum over its
 * columns by a warp. Columns of the state have nothing to do with each other in the forward pass, so blocks share them.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int COLUMNS = 32;
/** Tokens between states that are kept for the gradient. */
constexpr int CHUNK = 32;
constexpr int MOST_DIM = 256;

struct Recurrence {
  int heads, keyDim, valueDim, decays;
  float scale;
  /** Documents, and how many of them blocks take side by side in the backward pass. */
  int documents, slots;
};

/** A token's vectors of the keys' channels; d is e^g. */
struct Token {
  float q[MOST_DIM], k[MOST_DIM], d[MOST_DIM];
};

DEVICE void loadToken(Token& token, const float* q, const float* k, const float* g, uint64 at, Recurrence r) {
  for (int i = threadIdx.x; i < r.keyDim; i += THREADS) {
    token.q[i] = q[at * r.keyDim + i];
    token.k[i] = k[at * r.keyDim + i];
    token.d[i] = exponential(g[at * r.decays + (r.decays == 1 ? 0 : i)]);
  }
}

struct ForwardShared {
  float state[MOST_DIM][COLUMNS];
  Token token;
  float parts[2][WARPS][COLUMNS];
};

/**
 * A block has 32 columns of a head's state in a document: a lane a column, a warp every eighth row. y, states, and the states before the
 * first token and after the last, [H, Dk, Dv], may be left out.
 */
template <typename T>
DEVICE void forward(const float* q, const float* k, const float* v, const float* beta, const float* g, T* y, float* states,
                    const float* before, float* after, const int* documents, Recurrence r) {
  ForwardShared& shared = sharedMemory<ForwardShared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y, column = blockIdx.x * COLUMNS + lane;
  const int begin = documents[3 * blockIdx.z], end = documents[3 * blockIdx.z + 3], firstChunk = documents[3 * blockIdx.z + 1];
  const bool isThere = column < r.valueDim;
  const uint64 stateSize = static_cast<uint64>(r.keyDim) * r.valueDim;
  for (int i = warp; i < r.keyDim; i += WARPS) {
    shared.state[i][lane] = before && isThere ? before[head * stateSize + i * r.valueDim + column] : 0.0f;
  }
  for (int row = begin; row < end; row++) {
    const uint64 at = static_cast<uint64>(row) * r.heads + head;
    // Nobody reads the last token's vectors any more, since that one's last barrier.
    loadToken(shared.token, q, k, g, at, r);
    if (states && (row - begin) % CHUNK == 0) {
      float* kept = states + (static_cast<uint64>(firstChunk + (row - begin) / CHUNK) * r.heads + head) * stateSize;
      for (int i = warp; i < r.keyDim && isThere; i += WARPS) kept[i * r.valueDim + column] = shared.state[i][lane];
    }
    __syncthreads();
    float own = 0;
    for (int i = warp; i < r.keyDim; i += WARPS) {
      const float s = shared.state[i][lane] * shared.token.d[i];
      shared.state[i][lane] = s;
      own = __fmaf_rn(s, shared.token.k[i], own);
    }
    shared.parts[0][warp][lane] = own;
    __syncthreads();
    float known = 0;
    for (int w = 0; w < WARPS; w++) known += shared.parts[0][w][lane];
    const float u = isThere ? beta[at] * (v[at * r.valueDim + column] - known) : 0.0f;
    float out = 0;
    for (int i = warp; i < r.keyDim; i += WARPS) {
      const float s = __fmaf_rn(shared.token.k[i], u, shared.state[i][lane]);
      shared.state[i][lane] = s;
      out = __fmaf_rn(s, shared.token.q[i], out);
    }
    shared.parts[1][warp][lane] = out;
    __syncthreads();
    if (warp != 0 || !isThere || !y) continue;
    float total = 0;
    for (int w = 0; w < WARPS; w++) total += shared.parts[1][w][lane];
    y[at * r.valueDim + column] = fromFloat<T>(total * r.scale);
  }
  for (int i = warp; after && isThere && i < r.keyDim; i += WARPS) {
    after[head * stateSize + i * r.valueDim + column] = shared.state[i][lane];
  }
}

struct BackwardShared {
  Token token;
  /** Of the values' channels: the gradient of o times the scale, v − Sᵀk, and du. */
  float out[MOST_DIM], missing[MOST_DIM], du[MOST_DIM];
  float parts[THREADS];
  float dG[MOST_DIM];
};

/** How threads share a state whose columns they add up: a thread has a column, a group every so-manieth row. */
struct Groups {
  int width, count, own, column;
};
DEVICE Groups groupsOf(Recurrence r) {
  const int width = (r.valueDim + 31) / 32 * 32, thread = static_cast<int>(threadIdx.x);
  return {width, THREADS / width, thread / width, thread % width};
}

/** The sums of the groups' parts, in order; for threads of the first group. */
DEVICE float joined(const float* parts, Groups groups) {
  float sum = 0;
  for (int g = 0; g < groups.count; g++) sum += parts[g * groups.width + groups.column];
  return sum;
}

/** The states after each token of a chunk, to `inner` [32, Dk, Dv], and v − Sᵀk of each, to `missing` [32, Dv]. */
DEVICE void replay(BackwardShared& shared, const float* k, const float* v, const float* beta, const float* g, const float* kept,
                   float* inner, float* missing, int first, int count, int head, Recurrence r) {
  const Groups groups = groupsOf(r);
  const bool isThere = groups.own < groups.count && groups.column < r.valueDim;
  const int stateSize = r.keyDim * r.valueDim;
  for (int t = 0; t < count; t++) {
    const uint64 at = static_cast<uint64>(first + t) * r.heads + head;
    const float* before = t == 0 ? kept : inner + (t - 1) * stateSize;
    float* after = inner + t * stateSize;
    __syncthreads();
    loadToken(shared.token, k, k, g, at, r);
    __syncthreads();
    float own = 0;
    for (int i = groups.own; isThere && i < r.keyDim; i += groups.count) {
      own = __fmaf_rn(before[i * r.valueDim + groups.column] * shared.token.d[i], shared.token.k[i], own);
    }
    if (isThere) shared.parts[groups.own * groups.width + groups.column] = own;
    __syncthreads();
    if (!isThere) continue;
    const float rest = v[at * r.valueDim + groups.column] - joined(shared.parts, groups), u = beta[at] * rest;
    if (groups.own == 0) missing[t * r.valueDim + groups.column] = rest;
    for (int i = groups.own; i < r.keyDim; i += groups.count) {
      const int place = i * r.valueDim + groups.column;
      after[place] = __fmaf_rn(shared.token.k[i], u, before[place] * shared.token.d[i]);
    }
  }
}

/**
 * The gradients of q, k, v, β and g, in the shapes of these. The grid: heads, then slots, each of which takes every so-manieth
 * document, from its last token to its first. `inner` [slots, H, 32, Dk, Dv], `missing` [slots, H, 32, Dv] and `gradient` [slots, H, Dk, Dv],
 * that of the state, are to work in.
 */
template <typename T>
DEVICE void backward(const float* q, const float* k, const float* v, const float* beta, const float* g, const T* dy,
                     const float* states, float* inner, float* missing, float* gradient, float* dq, float* dk, float* dv, float* dBeta,
                     float* dG, const int* documents, Recurrence r) {
  BackwardShared& shared = sharedMemory<BackwardShared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.x, stateSize = r.keyDim * r.valueDim;
  const Groups groups = groupsOf(r);
  const bool isThere = groups.own < groups.count && groups.column < r.valueDim;
  const uint64 place = static_cast<uint64>(blockIdx.y) * r.heads + head;
  inner += place * CHUNK * stateSize;
  missing += place * CHUNK * r.valueDim;
  gradient += place * stateSize;
  for (int document = blockIdx.y; document < r.documents; document += r.slots) {
    const int begin = documents[3 * document], end = documents[3 * document + 3], firstChunk = documents[3 * document + 1];
    __syncthreads();
    for (int i = threadIdx.x; i < stateSize; i += THREADS) gradient[i] = 0;
    for (int chunk = (end - begin + CHUNK - 1) / CHUNK - 1; chunk >= 0; chunk--) {
      const int first = begin + chunk * CHUNK, count = end - first < CHUNK ? end - first : CHUNK;
      const float* kept = states + (static_cast<uint64>(firstChunk + chunk) * r.heads + head) * stateSize;
      replay(shared, k, v, beta, g, kept, inner, missing, first, count, head, r);
      for (int t = count - 1; t >= 0; t--) {
        const uint64 at = static_cast<uint64>(first + t) * r.heads + head;
        const float *after = inner + t * stateSize, *before = t == 0 ? kept : after - stateSize;
        __syncthreads();
        loadToken(shared.token, q, k, g, at, r);
        for (int j = threadIdx.x; j < r.valueDim; j += THREADS) {
          shared.out[j] = toFloat(dy[at * r.valueDim + j]) * r.scale;
          shared.missing[j] = missing[t * r.valueDim + j];
        }
        const float b = beta[at];
        __syncthreads();
        // dS += q·doᵀ, and du = dSᵀk.
        float own = 0;
        for (int i = groups.own; isThere && i < r.keyDim; i += groups.count) {
          float& ofState = gradient[i * r.valueDim + groups.column];
          ofState = __fmaf_rn(shared.token.q[i], shared.out[groups.column], ofState);
          own = __fmaf_rn(ofState, shared.token.k[i], own);
        }
        if (isThere) shared.parts[groups.own * groups.width + groups.column] = own;
        __syncthreads();
        if (isThere && groups.own == 0) {
          const float du = joined(shared.parts, groups);
          shared.du[groups.column] = du;
          dv[at * r.valueDim + groups.column] = b * du;
        }
        __syncthreads();
        // dw = −β·du; dk = dS·u + (d ⊙ S)·dw; then dS' = dS + k·dwᵀ, of which g's gradient is made, and the state's before it.
        for (int i = warp; i < r.keyDim; i += WARPS) {
          float ofQuery = 0, ofKey = 0, ofDecay = 0;
          for (int j = lane; j < r.valueDim; j += 32) {
            const int cell = i * r.valueDim + j;
            const float u = b * shared.missing[j], dw = -(b * shared.du[j]);
            const float earlier = before[cell], decayed = shared.token.d[i] * earlier, ofState = gradient[cell];
            ofQuery = __fmaf_rn(after[cell], shared.out[j], ofQuery);
            ofKey = __fmaf_rn(ofState, u, __fmaf_rn(decayed, dw, ofKey));
            const float ofDecayed = __fmaf_rn(shared.token.k[i], dw, ofState);
            ofDecay = __fmaf_rn(ofDecayed, earlier, ofDecay);
            gradient[cell] = shared.token.d[i] * ofDecayed;
          }
          ofQuery = sumOfWarp(ofQuery);
          ofKey = sumOfWarp(ofKey);
          ofDecay = sumOfWarp(ofDecay);
          if (lane != 0) continue;
          dq[at * r.keyDim + i] = ofQuery;
          dk[at * r.keyDim + i] = ofKey;
          shared.dG[i] = shared.token.d[i] * ofDecay;
        }
        __syncthreads();
        if (r.decays > 1) {
          for (int i = threadIdx.x; i < r.keyDim; i += THREADS) dG[at * r.decays + i] = shared.dG[i];
        }
        if (threadIdx.x != 0) continue;
        float ofBeta = 0, ofDecay = 0;
        for (int j = 0; j < r.valueDim; j++) ofBeta = __fmaf_rn(shared.du[j], shared.missing[j], ofBeta);
        for (int i = 0; i < r.keyDim; i++) ofDecay += shared.dG[i];
        dBeta[at] = ofBeta;
        if (r.decays == 1) dG[at] = ofDecay;
      }
    }
  }
}

KERNEL(deltaRuleBf16, THREADS, 2, const float* q, const float* k, const float* v, const float* beta, const float* g, bf16* y, float* states,
       const float* before, float* after, const int* documents, Recurrence r) {
  forward(q, k, v, beta, g, y, states, before, after, documents, r);
}
KERNEL(deltaRuleBackwardBf16, THREADS, 1, const float* q, const float* k, const float* v, const float* beta, const float* g,
       const bf16* dy, const float* states, float* inner, float* missing, float* gradient, float* dq, float* dk, float* dv, float* dBeta,
       float* dG, const int* documents, Recurrence r) {
  backward(q, k, v, beta, g, dy, states, inner, missing, gradient, dq, dk, dv, dBeta, dG, documents, r);
}

KERNEL(deltaRuleFloat, THREADS, 2, const float* q, const float* k, const float* v, const float* beta, const float* g, float* y, float* states,
       const float* before, float* after, const int* documents, Recurrence r) {
  forward(q, k, v, beta, g, y, states, before, after, documents, r);
}
KERNEL(deltaRuleBackwardFloat, THREADS, 1, const float* q, const float* k, const float* v, const float* beta, const float* g,
       const float* dy, const float* states, float* inner, float* missing, float* gradient, float* dq, float* dk, float* dv, float* dBeta,
       float* dG, const int* documents, Recurrence r) {
  backward(q, k, v, beta, g, dy, states, inner, missing, gradient, dq, dk, dv, dBeta, dG, documents, r);
}
