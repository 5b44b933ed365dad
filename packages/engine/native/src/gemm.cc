#include "gemm.h"

#include <array>

#include "parallel.h"

namespace sluice {

static_assert(kTileRows <= kWidth, "a strip of A is packed as one vector for each step along the depth");

/// Strips of A that a thread packs at once; with a block's depth they fit in the second-level cache.
constexpr size_t kMostStrips = 16;
/// Most floats of B packed at once in a product that packs for itself (4 MiB).
constexpr size_t kMostPacked = size_t{1} << 20;
/// A C of so many floats (2 MiB) stays in a cache while several blocks of depth are added to it.
constexpr size_t kMostCached = size_t{1} << 19;
/// Rows of a matrix in memory that are packed together: enough to write whole cache lines, few enough to read along them.
constexpr size_t kRowsAtOnce = 8;
/// Rows that are fetched so far ahead: they lie apart, where the CPU does not foresee them.
constexpr size_t kRowsAhead = 2 * kRowsAtOnce;
/// Up to so many rows, each panel of B is packed by the thread that uses it, just before.
constexpr size_t kFewRows = 4 * kTileRows;

static size_t divideUp(size_t a, size_t b) { return (a + b - 1) / b; }

// ------------------------------------------------------------------------------------------------------------ tiles

template <size_t R, size_t V>
static void addToMemory(const Vec (&sum)[R][V], float beta, float* c, size_t stride) {
#pragma GCC unroll 16
  for (size_t i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (size_t v = 0; v < V; ++v) {
      float* place = c + i * stride + v * kWidth;
      store(place, beta == 0 ? sum[i][v] : fused(load(place), beta, sum[i][v]));
    }
  }
}

/// C[R × columns] = beta·C + sum, columns ≤ V·kWidth.
template <size_t R, size_t V>
static void finish(const Vec (&sum)[R][V], float beta, float* c, size_t stride, size_t columns) {
  if (columns == V * kWidth) return addToMemory(sum, beta, c, stride);
  float edge[R][V * kWidth];
  for (size_t i = 0; i < R; ++i) std::copy_n(c + i * stride, columns, edge[i]);
  addToMemory(sum, beta, edge[0], V * kWidth);
  for (size_t i = 0; i < R; ++i) std::copy_n(edge[i], columns, c + i * stride);
}

/// One tile: C[R × columns] = beta·C + a·b over one block of depth, columns ≤ V·kWidth.
template <size_t R, size_t V>
static void tile(size_t depth, const float* a, const float* b, float beta, float* c, size_t stride, size_t columns) {
  // The lines of C arrive while the sums are formed: in the second-level cache, since rows that lie a power of two apart
  // would crowd each other out of the first.
#pragma GCC unroll 16
  for (size_t i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (size_t v = 0; v < V; ++v) __builtin_prefetch(c + i * stride + v * kWidth, 0, 2);
  }
  Vec sum[R][V] = {};
#pragma GCC unroll 1
  for (size_t k = 0; k < depth; ++k) {
    Vec row[V];
#pragma GCC unroll 8
    for (size_t v = 0; v < V; ++v) row[v] = load(b + v * kWidth);
#pragma GCC unroll 16
    for (size_t i = 0; i < R; ++i) {
      const Vec x = broadcast(a[i]);
#pragma GCC unroll 8
      for (size_t v = 0; v < V; ++v) sum[i][v] = fused(x, row[v], sum[i][v]);
    }
    a += kTileRows;
    b += kTileColumns;
  }
  // The compiler would keep the addresses of all these lines in memory meanwhile, unless `c` could be another one now.
  asm("" : "+r"(c));
  finish(sum, beta, c, stride, columns);
}

using Tile = void (*)(size_t, const float*, const float*, float, float*, size_t, size_t);

template <size_t... R, size_t... V>
static constexpr std::array<std::array<Tile, kTileVectors>, kTileRows> tileTable(std::index_sequence<R...>,
                                                                                 std::index_sequence<V...>) {
  const auto ofHeight = [](auto height) {
    return std::array<Tile, kTileVectors>{&tile<decltype(height)::value + 1, V + 1>...};
  };
  return {ofHeight(std::integral_constant<size_t, R>())...};
}

/// Tiles of 1 to kTileRows rows and 1 to kTileVectors vectors.
static constexpr auto kTiles =
    tileTable(std::make_index_sequence<kTileRows>(), std::make_index_sequence<kTileVectors>());

// ---------------------------------------------------------------------------------------------------------- packing

/// Reads a square of `lines` rows, the rest zeros, and turns it, so that turned[k] holds element k of each row.
static inline void loadTurned(const float* source, size_t stride, size_t lines, Vec (&turned)[kWidth]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < kWidth; ++i) turned[i] = i < lines ? load(source + i * stride) : Vec{};
  transpose(turned);
}

/// Writes `lines` rows of `source`, `depth` long, side by side: to[k·toStride + line]. Lanes up to kWidth beyond `lines`
/// are written too, with zeros or with what the next k overwrites.
static void packAcross(const float* source, size_t stride, size_t lines, size_t depth, float* to, size_t toStride) {
  size_t k = 0;
  for (; k + kWidth <= depth; k += kWidth) {
    Vec turned[kWidth];
    loadTurned(source + k, stride, lines, turned);
#pragma GCC unroll 16
    for (size_t i = 0; i < kWidth; ++i) store(to + (k + i) * toStride, turned[i]);
  }
  for (; k < depth; ++k) {
    for (size_t i = 0; i < kWidth; ++i) to[k * toStride + i] = i < lines ? source[i * stride + k] : 0;
  }
}

/// Packs a panel of up to kTileColumns columns of a B that lies transposed, over one block of depth.
static void packTransposedPanel(const Matrix& b, size_t columns, size_t depth, float* to) {
  for (size_t j = 0; j < kTileColumns; j += kWidth) {
    const size_t lines = std::min(kWidth, columns - std::min(columns, j));
    packAcross(b.data + j * b.stride, b.stride, lines, depth, to + j, kTileColumns);
  }
}

/// Packs all panels of a few rows of a B that does not lie transposed; panels are `panelSize` floats apart.
static void packRows(const Matrix& b, size_t columns, size_t rows, float* to, size_t panelSize) {
  for (size_t column = 0; column < columns; column += kTileColumns, to += panelSize) {
    const size_t width = std::min(kTileColumns, columns - column);
    for (size_t k = 0; k < rows; ++k) {
      const float* source = b.data + k * b.stride + column;
      float* place = to + k * kTileColumns;
      if (width == kTileColumns) {
#pragma GCC unroll 8
        for (size_t v = 0; v < kTileVectors; ++v) {
          __builtin_prefetch(source + kRowsAhead * b.stride + v * kWidth);
          store(place + v * kWidth, load(source + v * kWidth));
        }
      } else {
        std::copy_n(source, width, place);
        std::fill_n(place + width, kTileColumns - width, 0.0f);
      }
    }
  }
}

/// Floats that `packStrips` touches.
static size_t stripsSize(size_t rows, size_t depth) { return divideUp(rows, kTileRows) * kTileRows * depth + kWidth; }

/// Packs `rows` rows of A over one block of depth, in strips of kTileRows rows. Ends with kWidth floats of slack.
static void packStrips(const Matrix& a, size_t rows, size_t depth, float* to) {
  if (!a.transposed) {
    for (size_t row = 0; row < rows; row += kTileRows) {
      packAcross(a.data + row * a.stride, a.stride, std::min(kTileRows, rows - row), depth, to + row * depth, kTileRows);
    }
    return;
  }
  for (size_t first = 0; first < depth; first += kRowsAtOnce) {
    const size_t last = std::min(depth, first + kRowsAtOnce);
    for (size_t row = 0; row < rows; row += kTileRows) {
      const float* source = a.data + row;
      float* strip = to + row * depth;
      if (row + kWidth <= rows) {
        for (size_t k = first; k < last; ++k) {
          __builtin_prefetch(source + (k + kRowsAhead) * a.stride);
          const Vec line = load(source + k * a.stride);
          // What lies beyond the strip's width is overwritten by the next k; beyond the last one lies the next strip.
          if (k + 1 < depth) store(strip + k * kTileRows, line);
          else storePart(strip + k * kTileRows, line, kTileRows);
        }
      } else {
        const size_t lines = std::min(kTileRows, rows - row);
        for (size_t k = first; k < last; ++k) std::copy_n(source + k * a.stride, lines, strip + k * kTileRows);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------------------- products

/// Part of a matrix that will be packed soon. It is fetched into the second-level cache a few lines at a time, between the
/// tiles that are computed before, so that packing does not wait for memory.
class Upcoming {
 public:
  /// @param rows, columns of the matrix as it is read  @param times how often fetch() will be called
  Upcoming(const Matrix& matrix, size_t rows, size_t columns, size_t times)
      : next_(matrix.data),
        stride_(matrix.stride),
        rowsLeft_(matrix.transposed ? columns : rows),
        linesOfRow_(divideUp((matrix.transposed ? rows : columns) * sizeof(float), kCacheLine)),
        linesAtOnce_(divideUp(rowsLeft_ * linesOfRow_, std::max<size_t>(1, times))) {}

  void fetch() {
    for (size_t i = 0; i < linesAtOnce_ && rowsLeft_ > 0; ++i) {
      __builtin_prefetch(next_ + line_ * (kCacheLine / sizeof(float)), 0, 2);
      if (++line_ < linesOfRow_) continue;
      line_ = 0;
      next_ += stride_;
      --rowsLeft_;
    }
  }

 private:
  const float* next_;
  size_t stride_, rowsLeft_, linesOfRow_, linesAtOnce_, line_ = 0;
};

/// The rows of op(B) that will be packed after those that are used now.
struct NextRows {
  Matrix matrix;
  size_t count = 0;

  NextRows part(size_t index, size_t parts) const {
    const size_t begin = count * index / parts;
    return {matrix.from(begin, 0), count * (index + 1) / parts - begin};
  }
};

/// Strips × one panel, over one block of depth.
template <typename BeforeTile>
static void multiplyPanel(const float* strips, size_t rows, const float* panel, size_t columns, size_t depth, float beta,
                          float* c, size_t cStride, const BeforeTile& beforeTile) {
  const size_t vectors = divideUp(columns, kWidth);
  for (size_t row = 0; row < rows; row += kTileRows) {
    beforeTile();
    const size_t height = std::min(kTileRows, rows - row);
    kTiles[height - 1][vectors - 1](depth, strips + row * depth, panel, beta, c + row * cStride, cStride, columns);
  }
}

/// Rows of C × a range of panels of B, over the blocks of depth that are packed in B.
static void multiplyBlock(const Matrix& a, const PackedMatrix& b, size_t panelBegin, size_t panelEnd, float beta, float* c,
                          size_t cStride, size_t rows, const NextRows& nextOfB) {
  static thread_local Scratch memory;
  const DepthBlocks& blocks = b.blocks;
  const size_t tiles = divideUp(rows, kTileRows) * (panelEnd - panelBegin);
  Upcoming ofB(nextOfB.matrix, nextOfB.count, b.columns, tiles * blocks.count);
  for (size_t block = 0; block < blocks.count; ++block) {
    const size_t begin = blocks.begin(block), end = blocks.end(block), depth = end - begin;
    float* strips = memory.floats(stripsSize(rows, depth));
    packStrips(a.from(0, begin), rows, depth, strips);
    // More depth of the same rows; where there is none, the rows that follow in memory, if any.
    const size_t moreDepth = block + 1 < blocks.count ? depth : nextOfB.count;
    Upcoming ofA = moreDepth > 0 ? Upcoming(a.from(0, end), rows, moreDepth, tiles)
                                 : Upcoming(a.from(rows, blocks.begin(0)), rows, depth, tiles);
    for (size_t panel = panelBegin; panel < panelEnd; ++panel) {
      const size_t column = panel * kTileColumns;
      multiplyPanel(strips, rows, b.panel(block, panel), std::min(kTileColumns, b.columns - column), depth,
                    block == 0 ? beta : 1, c + column, cStride, [&] {
                      ofA.fetch();
                      ofB.fetch();
                    });
    }
  }
}

template <typename Body>
static void forItems(bool shared, size_t count, const Body& body) {
  if (shared) return parallelItems(count, body);
  for (size_t item = 0; item < count; ++item) body(item);
}

static void packAll(bool shared, const Matrix& b, const PackedMatrix& packed) {
  const DepthBlocks& blocks = packed.blocks;
  if (b.transposed) {
    forItems(shared, blocks.count * packed.panels, [&](size_t item) {
      const size_t block = item / packed.panels, panel = item % packed.panels, column = panel * kTileColumns;
      const size_t begin = blocks.begin(block), depth = blocks.end(block) - begin;
      packTransposedPanel(b.from(begin, column), std::min(kTileColumns, packed.columns - column), depth,
                          packed.panel(block, panel));
    });
    return;
  }
  const size_t groups = divideUp(kMostDepth, kRowsAtOnce);
  forItems(shared, blocks.count * groups, [&](size_t item) {
    const size_t block = item / groups, row = item % groups * kRowsAtOnce;
    const size_t begin = blocks.begin(block), depth = blocks.end(block) - begin;
    if (row >= depth) return;
    packRows(b.from(begin + row, 0), packed.columns, std::min(kRowsAtOnce, depth - row),
             packed.panel(block, 0) + row * kTileColumns, depth * kTileColumns);
  });
}

static void multiplyPackedBy(bool shared, const Matrix& a, const PackedMatrix& b, float beta, float* c, size_t cStride,
                             size_t rows, const NextRows& nextOfB = {}) {
  const size_t threads = shared ? static_cast<size_t>(threadCount()) : 1;
  const size_t strips = divideUp(rows, kTileRows);
  // Equal parts, a whole number for each thread; where the rows do not suffice, columns are cut as well.
  const size_t rowParts =
      std::min(strips, divideUp(std::max(divideUp(strips, kMostStrips), threads), threads) * threads);
  const size_t columnParts = rowParts < threads ? std::min(b.panels, divideUp(threads, rowParts)) : 1;
  forItems(shared, rowParts * columnParts, [&](size_t item) {
    const size_t rowPart = item / columnParts, columnPart = item % columnParts;
    const size_t begin = strips * rowPart / rowParts * kTileRows;
    const size_t end = std::min(rows, strips * (rowPart + 1) / rowParts * kTileRows);
    multiplyBlock(a.from(begin, 0), b, b.panels * columnPart / columnParts, b.panels * (columnPart + 1) / columnParts, beta,
                  c + begin * cStride, cStride, end - begin, nextOfB.part(item, rowParts * columnParts));
  });
}

/// C[R × columns] = beta·C + a·b over one block of depth, columns ≤ kWidth, straight from a B that lies transposed. In the
/// same order as in a tile, without the way through memory: for so few rows that this way would cost more than the sums.
template <size_t R>
static void multiplyTurned(const float* strip, const Matrix& b, size_t columns, size_t depth, float beta, float* c,
                           size_t cStride) {
  Vec sum[R][1] = {};
  Vec turned[kWidth];
  const auto add = [&](size_t k, const Vec& row) {
#pragma GCC unroll 4
    for (size_t i = 0; i < R; ++i) sum[i][0] = fused(broadcast(strip[k * kTileRows + i]), row, sum[i][0]);
  };
  size_t k = 0;
  for (; k + kWidth <= depth; k += kWidth) {
    loadTurned(b.data + k, b.stride, columns, turned);
#pragma GCC unroll 16
    for (size_t i = 0; i < kWidth; ++i) add(k + i, turned[i]);
  }
  for (; k < depth; ++k) {
    Vec row = {};
    for (size_t j = 0; j < columns; ++j) row[j] = b.data[j * b.stride + k];
    add(k, row);
  }
  finish(sum, beta, c, cStride, columns);
}

/// A panel for few rows: packed, and used at once.
static void multiplyUnpackedPanel(const float* strips, size_t rows, const Matrix& b, size_t columns, size_t depth,
                                  float beta, float* c, size_t cStride) {
  static thread_local Scratch memory;
  if (b.transposed && rows <= std::min<size_t>(4, kTileRows)) {
    constexpr decltype(&multiplyTurned<1>) ofRows[] = {multiplyTurned<1>, multiplyTurned<2>, multiplyTurned<3>,
                                                       multiplyTurned<4>};
    for (size_t j = 0; j < columns; j += kWidth) {
      ofRows[rows - 1](strips, b.from(0, j), std::min(kWidth, columns - j), depth, beta, c + j, cStride);
    }
    return;
  }
  float* panel = memory.floats(kMostDepth * kTileColumns);
  if (b.transposed) packTransposedPanel(b, columns, depth, panel);
  else packRows(b, columns, depth, panel, 0);
  multiplyPanel(strips, rows, panel, columns, depth, beta, c, cStride, [] {});
}

/// For few rows B is read once and used at once, so that it is not written to memory in another order first.
static void multiplyFewRows(bool shared, const Matrix& a, const Matrix& b, float beta, float* c, size_t cStride,
                            size_t rows, size_t columns, size_t depth) {
  static thread_local Scratch stripsMemory;
  const DepthBlocks blocks(depth);
  const size_t stripsOfBlock = stripsSize(rows, kMostDepth);
  float* strips = stripsMemory.floats(stripsOfBlock * blocks.count);
  for (size_t block = 0; block < blocks.count; ++block) {
    const size_t begin = blocks.begin(block);
    packStrips(a.from(0, begin), rows, blocks.end(block) - begin, strips + block * stripsOfBlock);
  }
  forItems(shared, divideUp(columns, kTileColumns), [&](size_t item) {
    const size_t column = item * kTileColumns, width = std::min(kTileColumns, columns - column);
    for (size_t block = 0; block < blocks.count; ++block) {
      const size_t begin = blocks.begin(block);
      multiplyUnpackedPanel(strips + block * stripsOfBlock, rows, b.from(begin, column), width, blocks.end(block) - begin,
                            block == 0 ? beta : 1, c + column, cStride);
    }
  });
}

static void multiplyBy(bool shared, const Matrix& a, const Matrix& b, float beta, float* c, size_t cStride, size_t rows,
                       size_t columns, size_t depth) {
  static thread_local Scratch memory;
  if (rows == 0 || columns == 0) return;
  shared = shared && rows * columns * depth >= kLeastShared;
  if (rows <= kFewRows) return multiplyFewRows(shared, a, b, beta, c, cStride, rows, columns, depth);
  const DepthBlocks blocks(depth);
  const size_t most = kMostPacked / kMostDepth / kTileColumns * kTileColumns;
  for (size_t column = 0; column < columns; column += most) {
    const size_t width = std::min(most, columns - column);
    // One block of depth at a time where C stays in a cache: the next can then be fetched during the products.
    const size_t sizeOfBlock = divideUp(width, kTileColumns) * kTileColumns * kMostDepth;
    const size_t atOnce = rows * width <= kMostCached ? 1 : std::max<size_t>(1, kMostPacked / sizeOfBlock);
    for (size_t block = 0; block < blocks.count; block += atOnce) {
      const size_t after = std::min(blocks.count, block + atOnce);
      const DepthBlocks range = blocks.range(block, after);
      const size_t begin = blocks.begin(block), end = blocks.begin(after);
      const PackedMatrix packed(range, width, memory.floats(PackedMatrix::size(end - begin, width)));
      packAll(shared, b.from(0, column), packed);
      const size_t next = after < blocks.count ? blocks.end(after) - end : 0;
      multiplyPackedBy(shared, a, packed, block == 0 ? beta : 1, c + column, cStride, rows, {b.from(end, column), next});
    }
  }
}

void multiply(const Matrix& a, const Matrix& b, float beta, float* c, size_t cStride, size_t rows, size_t columns,
              size_t depth) {
  multiplyBy(false, a, b, beta, c, cStride, rows, columns, depth);
}

void multiplyShared(const Matrix& a, const Matrix& b, float beta, float* c, size_t cStride, size_t rows, size_t columns,
                    size_t depth) {
  multiplyBy(true, a, b, beta, c, cStride, rows, columns, depth);
}

/// Largest packed copy of a Factor (floats, 64 MiB).
constexpr size_t kLargestFactor = size_t{1} << 24;

Factor::Factor(bool shared, const Matrix& matrix, size_t columns, size_t depth, size_t rowsToCome, size_t place)
    : matrix_(matrix), columns_(columns), depth_(depth) {
  static thread_local Scratch memories[kMostFactors];
  const size_t size = PackedMatrix::size(depth, columns);
  if (rowsToCome <= kFewRows || size > kLargestFactor) return;
  packed_.emplace(DepthBlocks(depth), columns, memories[place].floats(size));
  packAll(shared, matrix, *packed_);
}

void Factor::multiply(bool shared, const Matrix& a, float beta, float* c, size_t cStride, size_t rows) const {
  if (rows == 0) return;
  if (packed_) return multiplyPackedBy(shared, a, *packed_, beta, c, cStride, rows);
  multiplyBy(shared, a, matrix_, beta, c, cStride, rows, columns_, depth_);
}

}  // namespace sluice
