// What exactly-once costs: CPU time of a server per request, a plain
// header-then-body loop against the lane, in one thread without wake-ups and in
// interleaved rounds, so that noise of the machine hits both alike. Prints the
// median of the plain loop, which reads until it finds nothing, and the medians
// of the per-round ratios to it: of the lane, by the way its caller waits, and
// of a plain loop that makes no call in vain because it is level-triggered.
// Then the same ratios of the system calls alone, for ways of receiving
// (decision 9).
//   bazel run -c opt //statestore:lane_bench [rounds]
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "statestore/lane.h"
#include "statestore/segment_sys.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast {
namespace {

using testing::ToyHandler;
using testing::ToyReply;
using testing::ToyRequest;

constexpr int kRequestsPerRound = 2000;
constexpr LaneSizes kSizes{256, 4096, 4096};

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

struct Connection {
  Connection() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) Fail("socketpair");
    client.Reset(pair[0]);
    server.Reset(pair[1]);
  }
  UniqueFd client, server;
};

// What servers of such protocols do today: read the header, with room for
// descriptors, then the body, execute in place, send. The same handler on a
// bank in ordinary memory.
class PlainServer {
 public:
  // All that is there, or one request that must be there.
  void Serve(int fd, bool all) {
    const size_t header = sizeof(ToyRequest);
    while (ReceiveHeader(fd, header)) {
      const size_t total = *handler_.MessageSize({message_, header});
      if (total > header && read(fd, message_ + header, total - header) < 0) {
        Fail("read");
      }
      const auto outcome = handler_.Execute({message_, total}, 0, bank_, bank_,
                                            absl::MakeSpan(reply_), 1);
      handler_.Committed(bank_);
      iovec vector{reply_, outcome->reply_size};
      msghdr reply{};
      reply.msg_iov = &vector;
      reply.msg_iovlen = 1;
      if (sendmsg(fd, &reply, MSG_NOSIGNAL) < 0) Fail("sendmsg");
      if (!all) return;
    }
  }
  absl::Span<const uint8_t> bank() const { return bank_; }

 private:
  bool ReceiveHeader(int fd, size_t size) {
    alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
    iovec vector{message_, size};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    return recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) ==
           static_cast<ssize_t>(size);
  }

  ToyHandler handler_{BorrowedFd(-1), BorrowedFd(-1)};
  uint8_t message_[4096];
  uint8_t reply_[4096];
  std::vector<uint8_t> bank_storage_ = std::vector<uint8_t>(kSizes.bank);
  absl::Span<uint8_t> bank_ = absl::MakeSpan(bank_storage_);
};

uint64_t CpuNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * uint64_t{1000000000} + now.tv_nsec;
}

// CPU nanoseconds of `serve` per request of `size` bytes; the client's work is
// outside the measured time.
template <typename Serve>
double Round(const Connection& connection, uint32_t size, Serve serve) {
  uint64_t total = 0;
  for (int i = 0; i < kRequestsPerRound; ++i) {
    const auto message = testing::ToyMessage(
        {size, static_cast<uint32_t>(i), sizeof(ToyReply), 0, 0, 0});
    if (send(connection.client.get(), message.data(), size, 0) < 0)
      Fail("send");
    const uint64_t start = CpuNanoseconds();
    serve();
    total += CpuNanoseconds() - start;
    uint8_t reply[sizeof(ToyReply)];
    if (recv(connection.client.get(), reply, sizeof(reply), 0) !=
        sizeof(reply)) {
      Fail("recv");
    }
  }
  return static_cast<double>(total) / kRequestsPerRound;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The system calls alone, without journal and handler: what ways of receiving
// cost before the lane does anything. `size` is the request's.
enum class Calls {
  kHeaderThenBody,   // What the plain server makes.
  kPeekThenTake,     // What the lane makes.
  kPeekTakeSeldom,   // Takes five requests at once, when idle.
  kTakeWithoutLook,  // Consumes descriptors before they are safe.
};

class CallingServer {
 public:
  CallingServer(const Connection& connection, Calls calls)
      : fd_(connection.server.get()), calls_(calls) {
    const int offset = 0;
    if (setsockopt(fd_, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) != 0)
      Fail("setsockopt");
  }

  // One request is there; afterwards the socket is found empty.
  void Serve(size_t size) {
    if (calls_ == Calls::kHeaderThenBody) return ServePlain(size);
    constexpr int kTogether = 5;
    const int look = calls_ == Calls::kTakeWithoutLook ? 0 : MSG_PEEK;
    Receive(look, kGlance);
    if (calls_ == Calls::kPeekThenTake) Receive(0, size);
    iovec vector{bytes_, sizeof(ToyReply)};
    mmsghdr reply{};
    reply.msg_hdr.msg_iov = &vector;
    reply.msg_hdr.msg_iovlen = 1;
    if (sendmmsg(fd_, &reply, 1, MSG_NOSIGNAL) != 1) Fail("sendmmsg");
    Receive(look, kGlance);
    if (calls_ != Calls::kPeekTakeSeldom) return;
    left_ += size;
    if (++served_ % kTogether == 0) {
      Receive(0, left_);
      left_ = 0;
    }
  }

 private:
  static constexpr size_t kGlance = 1024;

  void ServePlain(size_t size) {
    constexpr size_t kHeader = sizeof(ToyRequest);
    alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
    iovec vector{bytes_, kHeader};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    if (recvmsg(fd_, &message, MSG_DONTWAIT) < 0) Fail("recvmsg");
    if (size > kHeader && read(fd_, bytes_, size - kHeader) < 0) Fail("read");
    vector.iov_len = sizeof(ToyReply);
    message.msg_control = nullptr;
    message.msg_controllen = 0;
    if (sendmsg(fd_, &message, MSG_NOSIGNAL) < 0) Fail("sendmsg");
    recvmsg(fd_, &message, MSG_DONTWAIT);
  }

  void Receive(int flags, size_t size) {
    iovec vector{bytes_, size};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &vector;
    message.msg_hdr.msg_iovlen = 1;
    recvmmsg(fd_, &message, 1, flags | MSG_DONTWAIT, nullptr);
  }

  const int fd_;
  const Calls calls_;
  uint8_t bytes_[4096] = {};
  size_t left_ = 0;
  int served_ = 0;
};

void CompareCalls(uint32_t size, int rounds) {
  constexpr Calls kAll[] = {Calls::kHeaderThenBody, Calls::kPeekThenTake,
                            Calls::kPeekTakeSeldom, Calls::kTakeWithoutLook};
  std::vector<double> ratios[4];
  for (int i = 0; i < rounds; ++i) {
    double plain = 0;
    for (const Calls calls : kAll) {
      const Connection connection;
      CallingServer server(connection, calls);
      const double ns = Round(connection, size, [&] { server.Serve(size); });
      if (calls == Calls::kHeaderThenBody) plain = ns;
      ratios[static_cast<int>(calls)].push_back(ns / plain);
    }
  }
  std::printf(
      "%u-byte request, calls alone: peek and take %.3f, take seldom %.3f, "
      "take without look %.3f\n",
      size, Median(ratios[1]), Median(ratios[2]), Median(ratios[3]));
}

// A lane with its memory and its client, or a plain server with one.
class Contender {
 public:
  Contender(const char* name, absl::optional<Lane::Waiting> waiting,
            bool plain_reads_all)
      : name_(name), waiting_(waiting), plain_reads_all_(plain_reads_all) {
    if (!waiting.has_value()) return;
    auto memfd = CreateSealedMemfd("lane", LaneSize(kSizes));
    if (!memfd.ok()) Fail("memfd");
    auto section =
        MapShared(*memfd, 0, LaneSize(kSizes), MapAccess::kReadWrite);
    if (!section.ok() || !LockMemory(section->span()).ok()) Fail("map");
    section_ = std::move(*section);
    auto lane = Lane::Attach(section_.span(), kSizes, 1);
    if (!lane.ok()) Fail("attach");
    lane_.emplace(*lane);
  }

  // Nanoseconds of a round.
  double Run(uint32_t size) {
    ns_.push_back(Round(connection_, size, [&] {
      if (!lane_.has_value()) {
        plain_.Serve(connection_.server.get(), plain_reads_all_);
      } else if (!lane_->Run(connection_.server, handler_, *waiting_).ok()) {
        Fail("run");
      }
    }));
    return ns_.back();
  }

  absl::Span<const uint8_t> bank() const {
    return lane_.has_value() ? lane_->bank() : plain_.bank();
  }
  const char* name() const { return name_; }
  const std::vector<double>& ns() const { return ns_; }

 private:
  const char* name_;
  absl::optional<Lane::Waiting> waiting_;
  bool plain_reads_all_;
  Connection connection_;
  Mapping section_;
  absl::optional<Lane> lane_;
  PlainServer plain_;
  ToyHandler handler_{BorrowedFd(-1), BorrowedFd(-1)};
  std::vector<double> ns_;
};

void Compare(uint32_t size, int rounds) {
  Contender all[] = {
      {"plain", absl::nullopt, /*plain_reads_all=*/true},
      {"lane, edge", Lane::Waiting::kEdge, false},
      {"lane, level", Lane::Waiting::kLevel, false},
      {"lane, any", Lane::Waiting::kAny, false},
      {"plain, level", absl::nullopt, /*plain_reads_all=*/false},
  };
  std::vector<double> ratios[5];
  for (int i = 0; i < rounds; ++i) {
    const double plain = all[0].Run(size);
    for (size_t k = 0; k < 5; ++k) {
      ratios[k].push_back((k == 0 ? plain : all[k].Run(size)) / plain);
    }
  }
  std::printf("%u-byte request: plain %.0f ns (min %.0f)", size,
              Median(all[0].ns()),
              *std::min_element(all[0].ns().begin(), all[0].ns().end()));
  for (size_t k = 1; k < 5; ++k) {
    // All have computed the same, or the comparison is void.
    if (all[k].bank() != all[0].bank()) Fail("banks differ");
    std::printf("; %s %.3f", all[k].name(), Median(ratios[k]));
  }
  std::printf("\n");
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 101;
  for (const uint32_t size : {24, 64, 300}) holdfast::Compare(size, rounds);
  for (const uint32_t size : {24, 64, 300}) {
    holdfast::CompareCalls(size, rounds);
  }
  return 0;
}
