// A lane killed after every instruction that changes its memory, and its
// successors too, as often as they like: all states that any number of deaths
// can reach are visited, and from each of them the client must see every
// request executed and answered once. The socket is a model in the same memory.
// The controls at the end break one rule each and must be caught.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "gtest/gtest.h"
#include "statestore/lane.h"
#include "statestore/lane_format.h"
#include "statestore/lane_io.h"
#include "statestore/lane_journal.h"
#include "statestore/testing/crash_explorer.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StepResult;
using ::holdfast::testing::TrapThrough;

constexpr LaneSizes kSizes{16, 64, 64};

// A request: size, descriptors, size of the reply, then payload.
constexpr size_t kHeaderSize = 3;

enum class Rule {
  kNone,
  kOffsetNotRestored,
  kPositionAfterCommit,
  kAlwaysResends,
  kNeverResends,
  kEscrowAfterConsumption,
  kCountByUserCode,  // No violation: the witness makes up for it.
  kCountByUserCodeWithoutWitness,
  kCountOfSentByUserCode,
};

struct Scenario {
  std::vector<uint8_t> stream;  // Requests, one after another.
  uint32_t chunk = 255;         // So many bytes come when none are left.
  uint32_t send_limit = 255;    // So many bytes fit the peer's queue at once.
  Lane::Waiting waiting = Lane::Waiting::kEdge;
  Rule broken = Rule::kNone;
};

// What the kernel and the store hold. A system call is not cut by a death: it
// is finished by whoever comes next, from what stands under `call`.
struct World {
  alignas(4096) uint8_t section[LaneSize(kSizes)];
  uint32_t arrived;
  uint32_t consumed;
  uint32_t peek_offset;
  uint32_t sent;
  uint8_t replies[256];
  uint8_t escrowed[16];  // By the first payload byte of the request.

  struct {
    uint32_t pending;
    uint32_t consumed, peek_offset, sent;  // As they are afterwards.
    uint32_t entry;                        // Where in the section; 0: nowhere.
    uint32_t length;
  } call;

  void Finish() {
    if (call.pending == 0) return;
    consumed = call.consumed;
    peek_offset = call.peek_offset;
    sent = call.sent;
    if (call.entry != 0) std::memcpy(section + call.entry, &call.length, 4);
    __atomic_store_n(&call.pending, 0, __ATOMIC_SEQ_CST);
  }
};
constexpr size_t kWorldSize = (sizeof(World) + 4095) / 4096 * 4096;

World& WorldIn(absl::Span<uint8_t> memory) {
  return *reinterpret_cast<World*>(memory.data());
}

// The message of the stream in which byte `at` lies: begin and end.
std::pair<size_t, size_t> MessageAt(const Scenario& scenario, size_t at) {
  size_t begin = 0;
  while (begin + scenario.stream[begin] <= at) begin += scenario.stream[begin];
  return {begin, begin + scenario.stream[begin]};
}

class ModelIo final : public LaneIo {
 public:
  ModelIo(const Scenario& scenario, World& world)
      : scenario_(scenario), world_(world) {}

  absl::StatusOr<Peeked> Peek(absl::Span<uint8_t> into) override {
    Peeked peeked;
    const size_t from = world_.consumed + world_.peek_offset;
    if (from >= world_.arrived) return peeked;
    peeked.result = Result::kDone;
    // Stops behind a piece with descriptors; a message is one.
    while (peeked.size < into.size() && from + peeked.size < world_.arrived) {
      const size_t at = from + peeked.size;
      const auto [begin, end] = MessageAt(scenario_, at);
      into[peeked.size++] = scenario_.stream[at];
      if (scenario_.stream[begin + 1] == 0) continue;
      peeked.has_fds = true;
      if (at + 1 == end) break;
    }
    world_.peek_offset += static_cast<uint32_t>(peeked.size);
    return peeked;
  }

  absl::StatusOr<Peeked> PeekWithFds(absl::Span<uint8_t> into,
                                     std::vector<UniqueFd>& fds) override {
    const size_t from = world_.consumed + world_.peek_offset;
    fds.resize(scenario_.stream[MessageAt(scenario_, from).first + 1]);
    return Peek(into);
  }

  absl::StatusOr<int> PeekOffset() override {
    return static_cast<int>(world_.peek_offset);
  }
  absl::Status SetPeekOffset(size_t offset) override {
    world_.peek_offset = scenario_.broken == Rule::kOffsetNotRestored
                             ? 0
                             : static_cast<uint32_t>(offset);
    return absl::OkStatus();
  }

  absl::StatusOr<Taken> Receive(LaneEntry& entry, LaneVector&,
                                absl::Span<uint8_t> into) override {
    Taken taken;
    const uint32_t size =
        std::min<uint32_t>(into.size(), world_.arrived - world_.consumed);
    if (size == 0) return taken;
    taken.result = Result::kDone;
    taken.dropped_fds =
        scenario_.stream[MessageAt(scenario_, world_.consumed).first + 1] != 0;
    std::memcpy(into.data(), scenario_.stream.data() + world_.consumed, size);
    const bool by_user =
        scenario_.broken == Rule::kCountByUserCode ||
        scenario_.broken == Rule::kCountByUserCodeWithoutWitness;
    if (scenario_.broken == Rule::kCountByUserCodeWithoutWitness) {
      auto& header = *reinterpret_cast<LaneHeader*>(world_.section);
      for (LaneRxSet& set : header.rx) set.witness = 0;
    }
    Begin(by_user ? nullptr : &entry, size);
    world_.call.consumed = world_.consumed + size;
    world_.call.peek_offset =
        world_.peek_offset - std::min(world_.peek_offset, size);
    world_.call.sent = world_.sent;
    End();
    if (by_user) entry.length = size;
    return taken;
  }

  absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector&,
                              absl::Span<const uint8_t> bytes,
                              absl::Span<const int>) override {
    const uint32_t size =
        std::min<uint32_t>(bytes.size(), scenario_.send_limit);
    if (world_.sent + size > sizeof(world_.replies)) return Result::kClosed;
    std::memcpy(world_.replies + world_.sent, bytes.data(), size);
    const bool by_user = scenario_.broken == Rule::kCountOfSentByUserCode;
    Begin(by_user ? nullptr : &entry, size);
    world_.call.consumed = world_.consumed;
    world_.call.peek_offset = world_.peek_offset;
    world_.call.sent = world_.sent + size;
    End();
    if (by_user) entry.length = size;
    return Result::kDone;
  }

  absl::Status WaitWritable() override { return absl::OkStatus(); }

 private:
  void Begin(const LaneEntry* entry, uint32_t length) {
    world_.call.length = length;
    world_.call.entry =
        entry == nullptr
            ? 0
            : static_cast<uint32_t>(
                  reinterpret_cast<const uint8_t*>(&entry->length) -
                  world_.section);
  }
  // Whatever moves, moves in one store.
  void End() {
    __atomic_store_n(&world_.call.pending, 1, __ATOMIC_SEQ_CST);
    world_.Finish();
  }

  const Scenario& scenario_;
  World& world_;
};

struct Bank {
  uint64_t count;
  uint64_t chain;
};

Bank Advance(Bank bank, absl::Span<const uint8_t> message) {
  for (const uint8_t byte : message) bank.chain = bank.chain * 257 + byte + 1;
  return {bank.count + 1, bank.chain};
}

uint8_t ReplyByte(const Bank& bank, size_t i) {
  return static_cast<uint8_t>(bank.chain >> i % 8 * 8) +
         static_cast<uint8_t>(bank.count + i);
}

class Handler final : public LaneHandler {
 public:
  Handler(const Scenario& scenario, World& world)
      : scenario_(scenario), world_(world) {}
  size_t header_size() const override { return kHeaderSize; }
  absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const override {
    return header[0];
  }
  absl::Status Escrow(absl::Span<const uint8_t> message,
                      absl::Span<UniqueFd> fds) override {
    if (scenario_.broken != Rule::kEscrowAfterConsumption) {
      world_.escrowed[message[kHeaderSize] % 16] = fds.size();
    }
    late_ = fds.size();
    return absl::OkStatus();
  }
  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message, size_t,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t) override {
    if (scenario_.broken == Rule::kEscrowAfterConsumption && late_ != 0) {
      world_.escrowed[message[kHeaderSize] % 16] = late_;
    }
    late_ = 0;
    Bank bank;
    std::memcpy(&bank, old_bank.data(), sizeof(bank));
    bank = Advance(bank, message);
    std::memcpy(new_bank.data(), &bank, sizeof(bank));
    for (size_t i = 0; i < message[2]; ++i) reply[i] = ReplyByte(bank, i);
    return Outcome{message[2], false};
  }
  void Committed(absl::Span<const uint8_t>) override {}
  absl::Span<const int> ReplyFds(absl::Span<const uint8_t>) override {
    return {};
  }

 private:
  const Scenario& scenario_;
  World& world_;
  uint8_t late_ = 0;
};

// What a successor reads where a rule is broken before it.
void Misread(const Scenario& scenario, World& world) {
  auto& header = *reinterpret_cast<LaneHeader*>(world.section);
  const LaneWord word = UnpackLaneWord(header.commit);
  LaneRecord& record = header.records[word.bank];
  LaneTxSet& set = header.tx[word.tx];
  if (!word.replying) return;
  const auto sent = TallyEntries(set.entries, word.folded, record.reply_size);
  if (!sent.ok()) return;
  if (scenario.broken == Rule::kAlwaysResends) {
    ArmEntries(set.entries);
  } else if (scenario.broken == Rule::kNeverResends &&
             sent->next != kLaneEntries) {
    set.entries[sent->next].length =
        static_cast<uint32_t>(record.reply_size - sent->bytes);
  } else if (scenario.broken == Rule::kPositionAfterCommit &&
             sent->bytes == 0) {
    record.flags &= 0xff;
    record.crc = LaneSum(
        record, {world.section + LayOutLane(16, 64, 64).bank[word.bank], 16});
  }
}

// A process from its start until nothing is left to do: the first and every
// successor. A handful of calls must do, or it hangs.
void Serve(const Scenario& scenario, absl::Span<uint8_t> memory) {
  World& world = WorldIn(memory);
  world.Finish();
  Misread(scenario, world);
  const auto& header = *reinterpret_cast<const LaneHeader*>(world.section);
  const uint64_t epoch = UnpackLaneWord(header.commit).epoch + 1;
  auto lane = Lane::Attach(absl::MakeSpan(world.section), kSizes, epoch);
  if (!lane.ok()) return;
  ModelIo io(scenario, world);
  Handler handler(scenario, world);
  for (size_t turn = 0; turn <= scenario.stream.size(); ++turn) {
    if (!lane->RunOn(io, handler, scenario.waiting).ok()) return;
    if (world.arrived == scenario.stream.size()) break;
    world.arrived =
        std::min<uint32_t>(world.arrived + scenario.chunk,
                           static_cast<uint32_t>(scenario.stream.size()));
  }
  (void)lane->SettleOn(io);
}

// What the client sees when nobody dies any more, and what is left.
std::string Check(const Scenario& scenario, absl::Span<uint8_t> memory) {
  const World& world = WorldIn(memory);
  Bank bank{};
  size_t sent = 0;
  for (size_t at = 0; at < scenario.stream.size(); at += scenario.stream[at]) {
    const absl::Span<const uint8_t> message(&scenario.stream[at],
                                            scenario.stream[at]);
    bank = Advance(bank, message);
    for (size_t i = 0; i < message[2]; ++i, ++sent) {
      if (sent >= world.sent) return absl::StrCat("lost reply ", bank.count);
      if (world.replies[sent] != ReplyByte(bank, i)) {
        return absl::StrCat("wrong reply ", bank.count);
      }
    }
    if (message[1] != 0 &&
        world.escrowed[message[kHeaderSize] % 16] != message[1]) {
      return absl::StrCat("lost descriptors of request ", bank.count);
    }
  }
  if (world.sent != sent) return "replies that nobody asked for";
  if (world.consumed != scenario.stream.size() || world.peek_offset != 0) {
    return "bytes are left in the socket";
  }
  const auto& header = *reinterpret_cast<const LaneHeader*>(world.section);
  const uint32_t index = UnpackLaneWord(header.commit).bank;
  if (std::memcmp(world.section + LayOutLane(16, 64, 64).bank[index], &bank,
                  sizeof(bank)) != 0) {
    return "the bank is not that of the client's model";
  }
  return "";
}

void Forget(LaneEntry (&entries)[kLaneEntries], LaneVector& vector) {
  for (LaneEntry& entry : entries) std::memset(entry.header, 0, 56);
  vector = {};
}

// What two images have in common that are the same state: all except which life
// it is, how often a request was tried, addresses, and what nobody reads by the
// rules of the format (docs/lane-format.md): the other bank, record and sets,
// and of the buffers what is not in use.
std::string Fingerprint(absl::Span<const uint8_t> image) {
  std::vector<uint8_t> copy(image.begin(), image.end());
  World& world = WorldIn(absl::MakeSpan(copy));
  auto& header = *reinterpret_cast<LaneHeader*>(world.section);
  if (world.call.pending == 0) world.call = {};
  std::memset(world.replies + world.sent, 0,
              sizeof(world.replies) - world.sent);
  if (header.commit == 0) return std::string(copy.begin(), copy.end());
  LaneWord word = UnpackLaneWord(header.commit);
  word.epoch = 0;
  header.commit = PackLaneWord(word);
  constexpr LaneLayout kAt = LayOutLane(16, 64, 64);
  std::memset(world.section + kAt.bank[word.bank ^ 1], 0, 16);
  header.records[word.bank ^ 1] = {};
  header.rx[word.rx ^ 1] = {};
  header.tx[word.tx ^ 1] = {};
  LaneRxSet& rx = header.rx[word.rx];
  Forget(rx.entries, rx.vector);
  rx.attempts = rx.attempts != 0;
  Forget(header.tx[word.tx].entries, header.tx[word.tx].vector);
  const auto at =
      TallyReception(rx, word.replying ? 0 : word.folded,
                     UnreadOf(header.records[word.bank]), kSizes.max_message);
  const size_t held = at.ok() ? at->have + LoadWitness(rx).peeked : 64;
  const size_t used = word.replying ? 0 : std::min<size_t>(held, 64);
  std::memset(world.section + kAt.message + used, 0, 64 - used);
  if (!word.replying) {
    header.tx[word.tx] = {};
    std::memset(world.section + kAt.reply, 0, 64);
  }
  return std::string(copy.begin(), copy.end());
}

struct Result {
  size_t states = 0;
  size_t deaths = 0;
  size_t violations = 0;
  std::string first;
};

Result Explore(const char* name, const Scenario& scenario,
               size_t most_violations = 1) {
  Result result;
  std::deque<std::vector<uint8_t>> waiting;
  std::set<std::string> seen;
  const auto visit = [&](absl::Span<const uint8_t> image) {
    ++result.deaths;
    if (!seen.insert(Fingerprint(image)).second) return;
    waiting.emplace_back(image.begin(), image.end());
  };
  visit(std::vector<uint8_t>(kWorldSize));
  while (!waiting.empty() && result.violations < most_violations) {
    const std::vector<uint8_t> image = std::move(waiting.front());
    waiting.pop_front();
    ++result.states;
    std::vector<uint8_t> last;
    const StepResult steps = TrapThrough(
        image, [&](absl::Span<uint8_t> memory) { Serve(scenario, memory); },
        [&](absl::Span<const uint8_t> now) {
          visit(now);
          last.assign(now.begin(), now.end());
        });
    std::string wrong = steps.error;
    if (wrong.empty()) wrong = Check(scenario, absl::MakeSpan(last));
    if (wrong.empty()) continue;
    if (result.violations++ == 0) result.first = wrong;
  }
  std::printf("%s: %zu deaths, %zu different states, %s\n", name, result.deaths,
              result.states,
              result.first.empty() ? "0 violations" : result.first.c_str());
  return result;
}

// Requests with these numbers of descriptors and sizes of reply.
std::vector<uint8_t> Stream(
    const std::vector<std::pair<uint8_t, uint8_t>>& requests) {
  std::vector<uint8_t> stream;
  uint8_t id = 1;
  for (const auto& [fds, reply] : requests) {
    const uint8_t size = kHeaderSize + 2;
    stream.insert(stream.end(), {size, fds, reply, id, uint8_t(id * 7)});
    ++id;
  }
  return stream;
}

TEST(LaneCrash, RequestsOneByOne) {
  Scenario scenario;
  scenario.stream = Stream({{0, 8}, {0, 0}, {0, 4}});
  scenario.chunk = 5;
  EXPECT_EQ(Explore("one by one", scenario).first, "");
}

TEST(LaneCrash, RequestsTogetherAndRepliesInPieces) {
  Scenario scenario;
  scenario.stream = Stream({{0, 6}, {0, 3}});
  scenario.send_limit = 1;  // More pieces than a set has entries.
  EXPECT_EQ(Explore("together, replies in pieces", scenario).first, "");
}

TEST(LaneCrash, RequestsInPieces) {
  Scenario scenario;
  scenario.stream = Stream({{0, 2}, {0, 2}});
  scenario.chunk = 3;
  EXPECT_EQ(Explore("in pieces", scenario).first, "");
}

TEST(LaneCrash, DescriptorsBehindWhatIsExecuted) {
  Scenario scenario;
  scenario.stream = Stream({{0, 2}, {2, 2}, {0, 2}});
  EXPECT_EQ(Explore("descriptors", scenario).first, "");
}

TEST(LaneCrash, NothingLeft) {
  Scenario scenario;
  scenario.stream = Stream({{0, 2}, {0, 2}});
  scenario.chunk = 5;
  scenario.waiting = Lane::Waiting::kAny;
  EXPECT_EQ(Explore("nothing left", scenario).first, "");
}

TEST(LaneCrash, TheWitnessMakesUpForALostCount) {
  Scenario scenario;
  scenario.stream = Stream({{0, 4}, {0, 4}});
  scenario.chunk = 4;
  scenario.broken = Rule::kCountByUserCode;
  EXPECT_EQ(Explore("witness only", scenario).first, "");
}

TEST(LaneCrashControl, EveryBrokenRuleIsNoticed) {
  const std::pair<const char*, Rule> rules[] = {
      {"control: offset not restored", Rule::kOffsetNotRestored},
      {"control: position after the commit", Rule::kPositionAfterCommit},
      {"control: always resends", Rule::kAlwaysResends},
      {"control: never resends", Rule::kNeverResends},
      {"control: escrow after consumption", Rule::kEscrowAfterConsumption},
      {"control: neither count nor witness",
       Rule::kCountByUserCodeWithoutWitness},
      {"control: count of sent by user code", Rule::kCountOfSentByUserCode},
  };
  for (const auto& [name, rule] : rules) {
    Scenario scenario;
    scenario.stream = Stream({{0, 4}, {1, 4}, {0, 4}});
    scenario.broken = rule;
    EXPECT_NE(Explore(name, scenario).first, "") << name;
  }
}

}  // namespace
}  // namespace holdfast
