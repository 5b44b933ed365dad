// The projection of an attention block cut into heads: queries and keys normalised (RMS) and rotated (rotary embedding in
// the rotate-half convention: channel i turns with channel i + D/2), gates and values copied. Forward and backward are one
// pass over the projection each.

#include <vector>

#include "addon.h"
#include "documents.h"
#include "lanes.h"
#include "parallel.h"

namespace sluice {

namespace {

// Tokens whose contributions to the norms' gradients are summed together, before those sums are added in order. It is
// fixed, so that the number of threads does not change the order of the sum.
constexpr size_t kTokensPerPart = 64;

/// Where things lie. Columns of the projection: for each key-value head, the queries of its group and then their gates;
/// then all keys; then all values.
struct Columns {
  size_t tokens, heads, keyValueHeads, headDim, gatesPerGroup;

  size_t group() const { return heads / keyValueHeads; }
  size_t queryWidth() const { return heads * headDim; }
  size_t keyWidth() const { return keyValueHeads * headDim; }
  size_t gateWidth() const { return keyValueHeads * gatesPerGroup; }
  size_t groupWidth() const { return group() * headDim + gatesPerGroup; }
  size_t query(size_t head) const { return head / group() * groupWidth() + head % group() * headDim; }
  size_t gate(size_t keyValueHead) const { return keyValueHead * groupWidth() + group() * headDim; }
  size_t keys() const { return keyValueHeads * groupWidth(); }
  size_t values() const { return keys() + keyWidth(); }
  size_t width() const { return values() + keyWidth(); }
};

/// cos and sin [T][D/2] of the angle of each pair at each position, T of the longest document.
struct Rotation {
  const float *cosine, *sine;
  size_t half;

  Rotation at(size_t position) const { return {cosine + position * half, sine + position * half, half}; }
};

float inverseRms(const float* x, size_t width, float epsilon) {
  const float sum = sumOfLanes(width, [x](Vec sum, size_t c, size_t lanes) {
    const Vec v = loadUpTo(x + c, lanes);
    return fused(v, v, sum);
  });
  return 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
}

/// y = rotated(x · inverse · weight); a null weight stands for no norm.
void turn(const float* x, const float* weight, float inverse, const Rotation& rotation, float* y) {
  const size_t half = rotation.half;
  for (size_t c = 0; c < half; c += kWidth) {
    const size_t rest = half - c;
    Vec first = loadUpTo(x + c, rest), second = loadUpTo(x + half + c, rest);
    if (weight != nullptr) {
      first *= inverse * loadUpTo(weight + c, rest);
      second *= inverse * loadUpTo(weight + half + c, rest);
    }
    const Vec cosine = loadUpTo(rotation.cosine + c, rest), sine = loadUpTo(rotation.sine + c, rest);
    storeUpTo(y + c, fused(first, cosine, -(second * sine)), rest);
    storeUpTo(y + half + c, fused(second, cosine, first * sine), rest);
  }
}

/// The way back from dy: dx = rotated back.
void turnBack(const float* dy, const Rotation& rotation, float* dx) {
  const size_t half = rotation.half;
  for (size_t c = 0; c < half; c += kWidth) {
    const size_t rest = half - c;
    const Vec first = loadUpTo(dy + c, rest), second = loadUpTo(dy + half + c, rest);
    const Vec cosine = loadUpTo(rotation.cosine + c, rest), sine = loadUpTo(rotation.sine + c, rest);
    storeUpTo(dx + c, fused(first, cosine, second * sine), rest);
    storeUpTo(dx + half + c, fused(second, cosine, -(first * sine)), rest);
  }
}

// With r = 1/rms and n = x·r:  dx = r · (d·w − n · mean(d·w·n)),  dw += d·n. On entry dx holds d.
void normBack(const float* x, const float* weight, float epsilon, size_t width, float* dx, float* dWeight) {
  const float inverse = inverseRms(x, width, epsilon);
  const float sum = sumOfLanes(width, [&](Vec sum, size_t c, size_t lanes) {
    const Vec product = loadUpTo(dx + c, lanes) * (loadUpTo(x + c, lanes) * inverse);
    storeUpTo(dWeight + c, loadUpTo(dWeight + c, lanes) + product, lanes);
    return fused(product, loadUpTo(weight + c, lanes), sum);
  });
  const float pull = sum * inverse / static_cast<float>(width);
  for (size_t c = 0; c < width; c += kWidth) {
    const size_t rest = width - c;
    const Vec pulled = -(loadUpTo(x + c, rest) * pull);
    storeUpTo(dx + c, inverse * fused(loadUpTo(dx + c, rest), loadUpTo(weight + c, rest), pulled), rest);
  }
}

Columns columnsOf(const Arguments& args, const Documents& documents, size_t first) {
  return {documents.tokens(), args.size(first + 2), args.size(first + 3), args.size(first + 4), args.size(first + 5)};
}

/// attentionHeads(projection[N·W], qNorm[D] | null, kNorm[D] | null, cos[T·D/2], sin[T·D/2], q[N·H·D], k[N·K·D], v[N·K·D],
///                gate[N·gates] | null, starts[documents + 1], documents, H, K, D, gate columns of a group, epsilon)
double attentionHeads(const Arguments& args) {
  const Documents documents(args, 9);
  const Columns at = columnsOf(args, documents, 9);
  const float epsilon = static_cast<float>(args.number(15));
  const size_t half = at.headDim / 2;
  const float* projection = args.floats(0, at.tokens * at.width());
  const float *qNorm = args.optionalFloats(1, at.headDim), *kNorm = args.optionalFloats(2, at.headDim);
  const Rotation rotation{args.floats(3, documents.longest() * half), args.floats(4, documents.longest() * half), half};
  float *q = args.floats(5, at.tokens * at.queryWidth()), *k = args.floats(6, at.tokens * at.keyWidth());
  float *v = args.floats(7, at.tokens * at.keyWidth());
  float* gate = at.gatesPerGroup == 0 ? nullptr : args.floats(8, at.tokens * at.gateWidth());

  const auto head = [&](const float* x, const float* weight, const Rotation& here, float* y) {
    turn(x, weight, weight == nullptr ? 1.0f : inverseRms(x, at.headDim, epsilon), here, y);
  };
  parallelFor(at.tokens, 16, [&](size_t begin, size_t end) {
    for (size_t token = begin; token < end; ++token) {
      const float* row = projection + token * at.width();
      const Rotation here = rotation.at(documents.position(token));
      for (size_t h = 0; h < at.heads; ++h) head(row + at.query(h), qNorm, here, q + (token * at.heads + h) * at.headDim);
      for (size_t h = 0; h < at.keyValueHeads; ++h) {
        head(row + at.keys() + h * at.headDim, kNorm, here, k + (token * at.keyValueHeads + h) * at.headDim);
        if (gate == nullptr) continue;
        std::memcpy(gate + (token * at.keyValueHeads + h) * at.gatesPerGroup, row + at.gate(h),
                    at.gatesPerGroup * sizeof(float));
      }
      std::memcpy(v + token * at.keyWidth(), row + at.values(), at.keyWidth() * sizeof(float));
    }
  });
  return 0;
}

/// attentionHeadsBackward(projection, qNorm | null, kNorm | null, cos, sin, dq, dk, dv, dGate | null, dProjection,
///                        dqNorm[D] | null, dkNorm[D] | null, accumulateQ, accumulateK, starts[documents + 1], documents, H, K, D,
///                        gate columns, epsilon)
double attentionHeadsBackward(const Arguments& args) {
  const Documents documents(args, 14);
  const Columns at = columnsOf(args, documents, 14);
  const float epsilon = static_cast<float>(args.number(20));
  const size_t half = at.headDim / 2, headDim = at.headDim;
  const float* projection = args.floats(0, at.tokens * at.width());
  const float *qNorm = args.optionalFloats(1, headDim), *kNorm = args.optionalFloats(2, headDim);
  const Rotation rotation{args.floats(3, documents.longest() * half), args.floats(4, documents.longest() * half), half};
  const float *dq = args.floats(5, at.tokens * at.queryWidth()), *dk = args.floats(6, at.tokens * at.keyWidth());
  const float* dv = args.floats(7, at.tokens * at.keyWidth());
  const float* dGate = at.gatesPerGroup == 0 ? nullptr : args.floats(8, at.tokens * at.gateWidth());
  float* dProjection = args.floats(9, at.tokens * at.width());

  // The norms' gradients: [parts][2: of queries, of keys][D].
  const size_t parts = (at.tokens + kTokensPerPart - 1) / kTokensPerPart;
  std::vector<float> partial(parts * 2 * headDim, 0.0f);
  const auto head = [&](size_t token, size_t column, const float* weight, const float* dy, float* dWeight) {
    float* dx = dProjection + token * at.width() + column;
    turnBack(dy, rotation.at(documents.position(token)), dx);
    if (weight != nullptr) normBack(projection + token * at.width() + column, weight, epsilon, headDim, dx, dWeight);
  };
  parallelFor(parts, 1, [&](size_t begin, size_t end) {
    for (size_t token = begin * kTokensPerPart; token < std::min(at.tokens, end * kTokensPerPart); ++token) {
      float* sums = partial.data() + token / kTokensPerPart * 2 * headDim;
      float* row = dProjection + token * at.width();
      for (size_t h = 0; h < at.heads; ++h) head(token, at.query(h), qNorm, dq + (token * at.heads + h) * headDim, sums);
      for (size_t h = 0; h < at.keyValueHeads; ++h) {
        const size_t index = token * at.keyValueHeads + h;
        head(token, at.keys() + h * headDim, kNorm, dk + index * headDim, sums + headDim);
        if (dGate == nullptr) continue;
        std::memcpy(row + at.gate(h), dGate + index * at.gatesPerGroup, at.gatesPerGroup * sizeof(float));
      }
      std::memcpy(row + at.values(), dv + token * at.keyWidth(), at.keyWidth() * sizeof(float));
    }
  });
  for (size_t norm = 0; norm < 2; ++norm) {
    if ((norm == 0 ? qNorm : kNorm) == nullptr) continue;
    float* dWeight = args.floats(10 + norm, headDim);
    const bool accumulate = args.boolean(12 + norm);
    for (size_t c = 0; c < headDim; ++c) {
      float sum = 0;
      for (size_t part = 0; part < parts; ++part) sum += partial[(part * 2 + norm) * headDim + c];
      dWeight[c] = accumulate ? dWeight[c] + sum : sum;
    }
  }
  return 0;
}

/// rotaryEmbedding(x[N·H·D], cos[T·D/2], sin[T·D/2], y[N·H·D], starts[documents + 1], documents, H, D, back): turns every
/// head, or turns it back.
double rotaryEmbedding(const Arguments& args) {
  const Documents documents(args, 4);
  const size_t tokens = documents.tokens(), heads = args.size(6), headDim = args.size(7), half = headDim / 2;
  const bool back = args.boolean(8);
  const float* x = args.floats(0, tokens * heads * headDim);
  const Rotation rotation{args.floats(1, documents.longest() * half), args.floats(2, documents.longest() * half), half};
  float* y = args.floats(3, tokens * heads * headDim);
  parallelFor(tokens, 16, [&](size_t begin, size_t end) {
    for (size_t token = begin; token < end; ++token) {
      const Rotation here = rotation.at(documents.position(token));
      for (size_t row = token * heads; row < (token + 1) * heads; ++row) {
        if (back) turnBack(x + row * headDim, here, y + row * headDim);
        else turn(x + row * headDim, nullptr, 1.0f, here, y + row * headDim);
      }
    }
  });
  return 0;
}

}  // namespace

SLUICE_EXPORT(attentionHeads, attentionHeads);
SLUICE_EXPORT(attentionHeadsBackward, attentionHeadsBackward);
SLUICE_EXPORT(rotaryEmbedding, rotaryEmbedding);

}  // namespace sluice
