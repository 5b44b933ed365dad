/**
 * NCCL's interface, as far as `src/cuda/nccl.ts` calls it, between processes of one host, each of which is a GPU of its own: sends and
 * receives in groups, on a stream, by a communicator that does not block. Bytes go over sockets. What NCCL would wait for without
 * end, such as a send that nobody receives, ends with an error after a while; sizes that differ do so at once. A process that ends
 * leaves the others with an error, as where NCCL goes over a network.
 */

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api.h"

using namespace emulator;

namespace {

/** Of `ncclResult_t`. */
enum NcclResult : int {
  NCCL_SUCCESS = 0,
  SYSTEM_ERROR = 2,
  INVALID_ARGUMENT = 4,
  INVALID_USAGE = 5,
  REMOTE_ERROR = 6,
  IN_PROGRESS = 7,
};

constexpr int VERSION = 23203;
/** Of `ncclInt8`: all that is sent here is bytes. */
constexpr int BYTES = 0;

struct UniqueId {
  char bytes[128];
};
/** As version 2.14 had it; later ones have more fields behind, and take this. */
struct Config {
  size_t size;
  unsigned magic, version;
  int blocking, clusterSize;
};

using Clock = std::chrono::steady_clock;
int limitMs = 120'000;

struct Transfer {
  bool isSend;
  int peer;
  uint64_t address;
  size_t bytes;
  size_t moved = 0;
  /** Of a send: the peer has it all. */
  bool isTaken = false;
  bool isDone() const { return moved == bytes && (!isSend || isTaken); }
};

/** Begins what travels. */
struct Header {
  enum Kind : uint64_t { data, taken } kind;
  uint64_t bytes;
};

/** The way to another rank. */
struct Peer {
  int socket = -1;
  /** Headers that are still to be written: of what was taken, between two transfers, and of the first of those that leave. */
  std::string takenHeaders, dataHeader;
  /** In order; the first one is on its way. */
  std::deque<std::shared_ptr<Transfer>> outgoing, incoming;
  /** Whether the first one has begun to be written, or to be read. */
  bool isSending = false, isReceiving = false;
  /** Sent, and not yet taken. */
  std::deque<std::shared_ptr<Transfer>> underWay;
  std::string read;
};

struct Communicator {
  int rank;
  std::string name;
  int listener = -1;
  std::vector<Peer> peers;
  int failure = NCCL_SUCCESS;
  std::string failureText;
  bool isAborted = false;
  /** A group that was ended, and is launched when somebody asks for the state. */
  std::vector<std::pair<void*, std::vector<std::shared_ptr<Transfer>>>> ended;

  ~Communicator() {
    if (listener >= 0) close(listener);
    for (const Peer& peer : peers) {
      if (peer.socket >= 0) close(peer.socket);
    }
  }
  int fail(int result, const std::string& text) {
    if (failure == NCCL_SUCCESS) failure = result, failureText = text;
    return failure;
  }
};
using Handle = std::shared_ptr<Communicator>;

/** Those that were not aborted. */
std::set<Handle*> live;

std::string lastError;
int refuseCall(int result, const std::string& text) { return lastError = text, result; }

constexpr const char* NO_MORE = "a communicator that is no more";

/** Calls since the last time they were counted. */
struct Counts {
  double groups, sends, receives, bytesSent, aborts;
} counts;

int depth = 0;
/** Whether something of the group was refused. */
bool isRefused = false;
struct Asked {
  Handle communicator;
  void* stream;
  Transfer transfer;
};
std::vector<Asked> asked;

sockaddr_un addressOf(const std::string& name, int rank, socklen_t* length) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // A name of no file, which ends with its process.
  const std::string path = "sluice-nccl-" + name + "-" + std::to_string(rank);
  std::memcpy(address.sun_path + 1, path.data(), path.size());
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  return address;
}

int nonBlockingSocket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

/** A rank calls those below it, and is called by those above. @returns whether all are connected */
bool connectAll(Communicator& self) {
  for (int rank = 0; rank < self.rank; rank++) {
    if (self.peers[rank].socket >= 0) continue;
    const int socket = nonBlockingSocket();
    socklen_t length;
    const sockaddr_un address = addressOf(self.name, rank, &length);
    if (connect(socket, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
      close(socket);
      continue;
    }
    const int32_t own = self.rank;
    if (write(socket, &own, sizeof own) != sizeof own) self.fail(SYSTEM_ERROR, "a new connection takes nothing");
    self.peers[rank].socket = socket;
  }
  for (int socket; (socket = accept4(self.listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    int32_t rank;
    if (read(socket, &rank, sizeof rank) != sizeof rank) {
      close(socket);
      continue;
    }
    fcntl(socket, F_SETFL, O_NONBLOCK);
    self.peers[rank].socket = socket;
  }
  for (int rank = 0; rank < static_cast<int>(self.peers.size()); rank++) {
    if (rank != self.rank && self.peers[rank].socket < 0) return false;
  }
  return true;
}

/** @returns bytes that went; 0 where there is no room now, −1 where the peer is gone */
ssize_t put(int socket, const void* bytes, size_t count) {
  const ssize_t sent = send(socket, bytes, count, MSG_NOSIGNAL);
  return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? 0 : -1;
}
ssize_t take(int socket, void* bytes, size_t count) {
  const ssize_t came = recv(socket, bytes, count, 0);
  return came > 0 ? came : came < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

void addHeader(std::string& headers, Header::Kind kind, uint64_t bytes) {
  const Header header = {kind, bytes};
  headers.append(reinterpret_cast<const char*>(&header), sizeof header);
}

/** @returns 1 where all of them have gone, 0 where there is no room now, −1 where the peer is gone */
int putHeaders(int socket, std::string& headers) {
  while (!headers.empty()) {
    const ssize_t sent = put(socket, headers.data(), headers.size());
    if (sent <= 0) return static_cast<int>(sent);
    headers.erase(0, static_cast<size_t>(sent));
  }
  return 1;
}

/** @returns whether the peer is still there */
bool moveOut(Peer& peer) {
  for (;;) {
    // Nothing comes between the parts of a transfer.
    if (!peer.isSending) {
      if (const int gone = putHeaders(peer.socket, peer.takenHeaders); gone <= 0) return gone == 0;
      if (peer.outgoing.empty()) return true;
      peer.isSending = true;
      addHeader(peer.dataHeader, Header::data, peer.outgoing.front()->bytes);
    }
    if (const int gone = putHeaders(peer.socket, peer.dataHeader); gone <= 0) return gone == 0;
    Transfer& transfer = *peer.outgoing.front();
    while (transfer.moved < transfer.bytes) {
      const auto* from = reinterpret_cast<const char*>(transfer.address) + transfer.moved;
      const ssize_t sent = put(peer.socket, from, transfer.bytes - transfer.moved);
      if (sent <= 0) return sent == 0;
      transfer.moved += static_cast<size_t>(sent);
    }
    peer.isSending = false;
    peer.underWay.push_back(peer.outgoing.front());
    peer.outgoing.pop_front();
  }
}

bool moveIn(Communicator& self, Peer& peer, int rank) {
  for (;;) {
    if (peer.isReceiving) {
      Transfer& transfer = *peer.incoming.front();
      while (transfer.moved < transfer.bytes) {
        auto* to = reinterpret_cast<char*>(transfer.address) + transfer.moved;
        const ssize_t came = take(peer.socket, to, transfer.bytes - transfer.moved);
        if (came <= 0) return came == 0;
        transfer.moved += static_cast<size_t>(came);
      }
      addHeader(peer.takenHeaders, Header::taken, 0);
      peer.incoming.pop_front();
      peer.isReceiving = false;
    }
    // What nobody waits for yet stays where it is: its peer waits until somebody does.
    if (peer.read.size() < sizeof(Header)) {
      char bytes[sizeof(Header)];
      const ssize_t came = take(peer.socket, bytes, sizeof bytes - peer.read.size());
      if (came <= 0) return came == 0;
      peer.read.append(bytes, static_cast<size_t>(came));
      if (peer.read.size() < sizeof(Header)) continue;
    }
    Header header;
    std::memcpy(&header, peer.read.data(), sizeof header);
    if (header.kind == Header::data && peer.incoming.empty()) return true;
    peer.read.clear();
    if (header.kind == Header::taken) {
      peer.underWay.front()->isTaken = true;
      peer.underWay.pop_front();
    } else if (header.bytes != peer.incoming.front()->bytes) {
      std::ostringstream text;
      text << "rank " << rank << " sends " << header.bytes << " bytes where rank " << self.rank << " receives "
           << peer.incoming.front()->bytes;
      self.fail(INVALID_USAGE, text.str());
      return true;
    } else {
      peer.isReceiving = true;
    }
  }
}

/** Moves what can be moved now. */
void move(Communicator& self) {
  for (int rank = 0; rank < static_cast<int>(self.peers.size()) && self.failure == NCCL_SUCCESS; rank++) {
    Peer& peer = self.peers[rank];
    if (peer.socket < 0) continue;
    const bool isThere = moveOut(peer) && moveIn(self, peer, rank) && moveOut(peer);
    const bool isNeeded = !peer.outgoing.empty() || !peer.incoming.empty() || !peer.underWay.empty();
    if (!isThere && isNeeded) self.fail(REMOTE_ERROR, "the connection with rank " + std::to_string(rank) + " broke");
  }
}

std::string describe(const std::vector<std::shared_ptr<Transfer>>& transfers) {
  std::ostringstream text;
  const char* separator = "";
  for (const auto& transfer : transfers) {
    if (transfer->isDone()) continue;
    text << separator << (transfer->isSend ? "a send to" : "a receive from") << " rank " << transfer->peer << " of "
         << transfer->bytes << " bytes";
    separator = ", ";
  }
  return text.str();
}

/** A group as work of its stream: it is over when all has come, and all that was sent has been taken. */
void launch(const Handle& self, void* stream, const std::vector<std::shared_ptr<Transfer>>& transfers) {
  later(stream, [self, transfers, begun = Clock::time_point()]() mutable -> int {
    if (self->isAborted) return SUCCESS;
    if (self->failure != NCCL_SUCCESS) return NOT_READY;
    if (begun == Clock::time_point()) {
      begun = Clock::now();
      for (const auto& transfer : transfers) {
        // What is received counts as written from here on: nobody else may look at it until it is waited for.
        const Touching touching = transfer->isSend ? Touching::sends : Touching::writes;
        const Result result = touch(transfer->address, transfer->bytes, touching);
        if (result != SUCCESS) return result;
        Peer& peer = self->peers[transfer->peer];
        (transfer->isSend ? peer.outgoing : peer.incoming).push_back(transfer);
      }
    }
    move(*self);
    bool isDone = true;
    for (const auto& transfer : transfers) isDone = isDone && transfer->isDone();
    if (isDone) return SUCCESS;
    if (Clock::now() - begun > std::chrono::milliseconds(limitMs)) {
      self->fail(SYSTEM_ERROR, "NCCL would wait without end for " + describe(transfers));
    }
    return NOT_READY;
  });
}

}  // namespace

API ncclGetVersion(int* version) { return *version = VERSION, NCCL_SUCCESS; }

API ncclGetUniqueId(UniqueId* id) {
  std::random_device random;
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->bytes, sizeof id->bytes, "%08x%08x", random(), random());
  return NCCL_SUCCESS;
}

API ncclCommInitRankConfig(Handle** communicator, int size, UniqueId id, int rank, const Config* config) {
  if (!config || config->magic != 0xcafebeef || config->size < sizeof(Config) || config->blocking != 0) {
    return refuseCall(INVALID_ARGUMENT, "communicators are such that do not block here");
  }
  if (rank < 0 || rank >= size) return refuseCall(INVALID_ARGUMENT, "no such rank");
  auto self = std::make_shared<Communicator>();
  self->rank = rank;
  self->name = id.bytes;
  self->peers.resize(static_cast<size_t>(size));
  self->listener = nonBlockingSocket();
  socklen_t length;
  const sockaddr_un address = addressOf(self->name, rank, &length);
  if (bind(self->listener, reinterpret_cast<const sockaddr*>(&address), length) != 0 || listen(self->listener, size) != 0) {
    return refuseCall(INVALID_USAGE, "there is a rank " + std::to_string(rank) + " of this communicator already");
  }
  live.insert(*communicator = new Handle(self));
  return IN_PROGRESS;
}

API ncclCommGetAsyncError(Handle* communicator, int* state) {
  if (!live.count(communicator)) return refuseCall(INVALID_ARGUMENT, NO_MORE);
  Communicator& self = **communicator;
  if (self.failure != NCCL_SUCCESS) return *state = self.failure, NCCL_SUCCESS;
  if (!connectAll(self)) return *state = IN_PROGRESS, NCCL_SUCCESS;
  for (const auto& [stream, transfers] : self.ended) launch(*communicator, stream, transfers);
  self.ended.clear();
  return *state = self.failure, NCCL_SUCCESS;
}

API ncclGroupStart() { return depth++, NCCL_SUCCESS; }

static int ask(bool isSend, uint64_t address, size_t count, int type, int peer, Handle* communicator, void* stream) {
  const char* name = isSend ? "ncclSend" : "ncclRecv";
  const auto wrong = [&](const std::string& what) {
    isRefused = true;
    return refuseCall(INVALID_USAGE, std::string(name) + ": " + what);
  };
  if (!live.count(communicator)) return refuseCall(INVALID_ARGUMENT, NO_MORE);
  Communicator& self = **communicator;
  if (depth == 0) return wrong("sends and receives come in groups here");
  if (type != BYTES) return wrong("what is sent is bytes here");
  if (peer < 0 || peer >= static_cast<int>(self.peers.size()) || peer == self.rank) return wrong("no such peer");
  if (!self.ended.empty()) return wrong("the group before is still being launched: ask ncclCommGetAsyncError");
  (isSend ? counts.sends : counts.receives)++;
  if (isSend) counts.bytesSent += static_cast<double>(count);
  asked.push_back({*communicator, stream, {isSend, peer, address, count}});
  return NCCL_SUCCESS;
}
API ncclSend(uint64_t from, size_t count, int type, int peer, Handle* communicator, void* stream) {
  return ask(true, from, count, type, peer, communicator, stream);
}
API ncclRecv(uint64_t to, size_t count, int type, int peer, Handle* communicator, void* stream) {
  return ask(false, to, count, type, peer, communicator, stream);
}

API ncclGroupEnd() {
  if (depth == 0) return refuseCall(INVALID_USAGE, "no group has begun");
  if (--depth > 0) return NCCL_SUCCESS;
  if (isRefused) {
    isRefused = false;
    asked.clear();
    return INVALID_USAGE;
  }
  if (asked.empty()) return NCCL_SUCCESS;
  counts.groups++;
  std::vector<std::shared_ptr<Transfer>> transfers;
  for (const Asked& one : asked) transfers.push_back(std::make_shared<Transfer>(one.transfer));
  const Asked& first = asked.front();
  for (const Asked& one : asked) {
    if (one.communicator != first.communicator || one.stream != first.stream) {
      asked.clear();
      return refuseCall(INVALID_USAGE, "a group has one communicator and one stream here");
    }
  }
  first.communicator->ended.emplace_back(first.stream, std::move(transfers));
  asked.clear();
  return IN_PROGRESS;
}

/** What was under way is over, and has not come. */
API ncclCommAbort(Handle* communicator) {
  if (live.erase(communicator) == 0) return refuseCall(INVALID_ARGUMENT, NO_MORE);
  counts.aborts++;
  (*communicator)->isAborted = true;
  for (Peer& peer : (*communicator)->peers) {
    if (peer.socket >= 0) close(peer.socket);
    peer.socket = -1;
  }
  delete communicator;
  return NCCL_SUCCESS;
}

API_TEXT ncclGetErrorString(int result) {
  switch (result) {
    case SYSTEM_ERROR:
      return "unhandled system error";
    case INVALID_ARGUMENT:
      return "invalid argument";
    case INVALID_USAGE:
      return "invalid usage";
    case REMOTE_ERROR:
      return "remote process exited or there was a network error";
    case IN_PROGRESS:
      return "NCCL operation in progress";
  }
  return "no error";
}
API_TEXT ncclGetLastError(Handle* communicator) {
  if (live.count(communicator) && (*communicator)->failure != NCCL_SUCCESS) lastError = (*communicator)->failureText;
  return lastError.c_str();
}

// What only the emulator has.

/** How long a send or a receive waits for its counterpart, milliseconds. */
extern "C" EMULATOR void emulatorNcclLimit(int milliseconds) { limitMs = milliseconds; }
/** Fills in, since the last call: groups, sends, receives, bytes sent, aborts. */
extern "C" EMULATOR void emulatorNcclCalls(double* all) {
  std::memcpy(all, &counts, sizeof counts);
  counts = {};
}
