/**
 * The copy engine: maps of matrices, as `cuTensorMapEncodeTiled` makes them, and copies of their boxes to shared memory and back. A tile
 * comes as late as it may, when no thread can go on without it, and a store is made when it is waited for; what is seen before is not a
 * number.
 */

#include "copyEngine.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>

#include "api.h"

namespace emulator {

namespace {

constexpr int AXES = 3;
constexpr uint64_t MAGIC = 0x70616d726f736e65;

/** What lies in a `TensorMap`; the first axis is the contiguous one. */
struct Map {
  uint64_t magic, address;
  uint64_t sizes[AXES];
  /** Bytes from one to the next, of the other axes. */
  uint64_t strides[AXES - 1];
  uint32_t box[AXES];
  uint32_t elementBytes;
};
static_assert(sizeof(Map) <= sizeof(TensorMap));

struct Tile {
  unsigned char* shared;
  Map map;
  int at[AXES];
  int barrier;
};
std::deque<Tile> tiles;
/** By thread, groups of stores. */
std::vector<std::vector<std::vector<Tile>>> stores;
std::vector<Clock> storesDone;
std::mt19937_64 random;

constexpr size_t SWIZZLED_ROW = 128;

size_t bytesOf(const Map& map) { return size_t{map.box[0]} * map.box[1] * map.box[2] * map.elementBytes; }

/**
 * Calls `f` for each row of a tile with its offset, the address of what is there of it (none where nothing is), where in the row that begins,
 * and its bytes.
 */
template <typename F>
void forRows(const Tile& tile, F f) {
  const Map& map = tile.map;
  const size_t rowBytes = size_t{map.box[0]} * map.elementBytes;
  size_t offset = 0;
  const auto isThere = [&](int axis, int64_t i) {
    return tile.at[axis] + i >= 0 && tile.at[axis] + i < static_cast<int64_t>(map.sizes[axis]);
  };
  for (uint32_t z = 0; z < map.box[2]; z++) {
    for (uint32_t y = 0; y < map.box[1]; y++, offset += rowBytes) {
      const bool rowIsThere = isThere(2, z) && isThere(1, y);
      const uint64_t row = map.address + (tile.at[1] + y) * map.strides[0] + (tile.at[2] + z) * map.strides[1];
      const int64_t begin = std::max(0, -tile.at[0]), end = std::min<int64_t>(map.box[0], static_cast<int64_t>(map.sizes[0]) - tile.at[0]);
      f(offset, rowIsThere && begin < end ? row + (tile.at[0] + begin) * map.elementBytes : 0, begin * map.elementBytes,
        std::max<int64_t>(0, end - begin) * map.elementBytes);
    }
  }
}

/** Moves a row's bytes between their places in a tile and memory: 16-byte chunks are permuted by the bits of their address. */
void moveRow(unsigned char* tileRow, unsigned char* bytes, bool toTile) {
  const size_t turn = reinterpret_cast<uintptr_t>(tileRow) / SWIZZLED_ROW % 8;
  for (size_t chunk = 0; chunk < SWIZZLED_ROW / 16; chunk++) {
    unsigned char* const inTile = tileRow + (chunk ^ turn) * 16;
    if (toTile) std::memcpy(inTile, bytes + chunk * 16, 16);
    else std::memcpy(bytes + chunk * 16, inTile, 16);
  }
}

Tile tileOf(const TensorMap* map, const void* shared, int column, int row, int matrix, const void* place) {
  Tile tile = {const_cast<unsigned char*>(static_cast<const unsigned char*>(shared)), {}, {column, row, matrix}, -1};
  std::memcpy(&tile.map, map, sizeof(Map));
  if (tile.map.magic != MAGIC) fault("a tensor map that cuTensorMapEncodeTiled has not made", place);
  const auto offset = static_cast<size_t>(tile.shared - sharedBytes());
  if (offset >= sharedSize() || offset + bytesOf(tile.map) > sharedSize()) fault("a tile that does not lie in shared memory", place);
  align(shared, 1024, place);
  return tile;
}

size_t offsetOf(const Tile& tile) { return static_cast<size_t>(tile.shared - sharedBytes()); }

}  // namespace

void beginCopyEngine(int threads) {
  tiles.clear();
  stores.assign(static_cast<size_t>(threads), {{}});
  storesDone.assign(static_cast<size_t>(threads), 0);
  random.seed(settings.seed);
}

int tilesUnderWay(int barrier) {
  return static_cast<int>(std::count_if(tiles.begin(), tiles.end(), [&](const Tile& tile) { return tile.barrier == barrier; }));
}

void beginTile(void* to, const TensorMap* map, int column, int row, int matrix, Barrier* barrier) {
  const void* place = __builtin_return_address(0);
  Tile tile = tileOf(map, to, column, row, matrix, place);
  tile.barrier = barrierAt(barrier, place);
  if (!isPublished(tile.barrier)) fault("a tile copy with a barrier that the copy engine does not see: publishBarriers is missing", place);
  forRows(tile, [&](size_t, uint64_t from, size_t, size_t bytes) {
    if (from) look(reinterpret_cast<const void*>(from), bytes, false, place);
  });
  copyWillWrite(offsetOf(tile), bytesOf(tile.map), {static_cast<uint16_t>(ofBarrier(tile.barrier)), currentPhase(tile.barrier)}, place);
  std::memset(tile.shared, 0xff, bytesOf(tile.map));
  tiles.push_back(tile);
}

bool bringTile() {
  if (tiles.empty()) return false;
  size_t next = settings.order == Order::backward ? tiles.size() - 1 : 0;
  if (settings.order == Order::shuffled) next = random() % tiles.size();
  const Tile tile = tiles[next];
  tiles.erase(tiles.begin() + static_cast<std::ptrdiff_t>(next));
  forRows(tile, [&](size_t offset, uint64_t from, size_t begin, size_t bytes) {
    unsigned char row[SWIZZLED_ROW] = {};
    if (from) std::memcpy(row + begin, reinterpret_cast<const void*>(from), bytes);
    moveRow(tile.shared + offset, row, true);
  });
  bytesHaveCome(tile.barrier, bytesOf(tile.map));
  return true;
}

void beginStore(const TensorMap* map, const void* from, int column, int row, int matrix) {
  const void* place = __builtin_return_address(0);
  const Tile tile = tileOf(map, from, column, row, matrix, place);
  auto& groups = stores[now().thread];
  forRows(tile, [&](size_t, uint64_t to, size_t, size_t bytes) {
    if (to) look(reinterpret_cast<const void*>(to), bytes, true, place);
  });
  const auto group = static_cast<Clock>(storesDone[now().thread] + groups.size());
  storeReads(offsetOf(tile), bytesOf(tile.map), {static_cast<uint16_t>(ofStores()), group}, place);
  groups.back().push_back(tile);
}

void commitStores() { stores[now().thread].push_back({}); }

void waitForStores(int underWay) {
  auto& groups = stores[now().thread];
  for (; groups.size() > static_cast<size_t>(underWay) + 1; groups.erase(groups.begin())) {
    for (const Tile& tile : groups.front()) {
      forRows(tile, [&](size_t offset, uint64_t to, size_t begin, size_t bytes) {
        unsigned char row[SWIZZLED_ROW];
        moveRow(tile.shared + offset, row, false);
        if (to) std::memcpy(reinterpret_cast<void*>(to), row + begin, bytes);
      });
    }
    storesDone[now().thread]++;
  }
  learn(ofStores(), storesDone[now().thread]);
}

void checkCopies(bool isLast) {
  const auto& groups = stores[now().thread];
  if (groups.size() > 1 || !groups.front().empty()) fault("ends while its tile stores read shared memory: waitForStores is missing");
  if (isLast && !tiles.empty()) fault("the block ends while tile copies are under way");
}

}  // namespace emulator

using namespace emulator;

/** Of the driver's maps those that kernels of the house use: three axes, bf16 or floats, rows of 128 bytes with the 128-byte swizzle. */
API cuTensorMapEncodeTiled(void* map, int type, uint32_t rank, void* address, const uint64_t* sizes, const uint64_t* strides,
                           const uint32_t* box, const uint32_t* elementStrides, int interleave, int swizzle, int promotion, int fill) {
  constexpr int FLOAT32 = 7, BFLOAT16 = 9, SWIZZLE_128 = 3, MOST_PROMOTION = 3;
  constexpr uint64_t MOST_SIZE = uint64_t{1} << 32, MOST_STRIDE = uint64_t{1} << 40;
  constexpr uint32_t MOST_BOX = 256;
  const auto wrong = [](const std::string& what) { return check(false, INVALID_VALUE, "a tensor map " + what); };
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) return wrong("that does not lie at a multiple of 64 bytes");
  if (type != FLOAT32 && type != BFLOAT16) return wrong("of a type that the emulator does not know");
  if (rank != AXES) return wrong("of " + std::to_string(rank) + " axes, where kernels of the house have three");
  if (interleave != 0 || fill != 0 || swizzle != SWIZZLE_128 || promotion < 0 || promotion > MOST_PROMOTION) {
    return wrong("with other options than kernels of the house use");
  }
  const uint32_t elementBytes = type == FLOAT32 ? 4 : 2;
  Map made = {MAGIC, reinterpret_cast<uint64_t>(address), {}, {}, {}, elementBytes};
  if (made.address % 16 != 0) return wrong("of values that do not begin at a multiple of 16 bytes");
  for (uint32_t axis = 0; axis < rank; axis++) {
    if (sizes[axis] == 0 || sizes[axis] > MOST_SIZE) return wrong("of " + std::to_string(sizes[axis]) + " along an axis");
    if (box[axis] == 0 || box[axis] > MOST_BOX) return wrong("with a box of " + std::to_string(box[axis]) + " along an axis");
    if (elementStrides[axis] != 1) return wrong("with steps, which kernels of the house do not use");
    made.sizes[axis] = sizes[axis];
    made.box[axis] = box[axis];
    if (axis == 0) continue;
    const uint64_t stride = made.strides[axis - 1] = strides[axis - 1];
    if (stride % 16 != 0 || stride >= MOST_STRIDE) return wrong("with a stride of " + std::to_string(stride) + " bytes");
    if (stride < (axis == 1 ? sizes[0] * elementBytes : sizes[1] * strides[0])) return wrong("whose rows overlap");
  }
  if (box[0] * elementBytes != SWIZZLED_ROW) return wrong("with rows of other than 128 bytes in a box");
  std::memcpy(map, &made, sizeof made);
  return SUCCESS;
}
