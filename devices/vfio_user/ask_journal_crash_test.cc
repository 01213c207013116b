// A process that asks the client for memory, killed after every instruction
// that changes the journal, and its successor too: the stream stays whole, no
// answer is taken for another, and no write of the dead overtakes one of the
// living. The client is a model in the same memory that answers the youngest
// request first. The controls break one rule each and must be caught.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "devices/vfio_user/ask_journal.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/sending_io.h"
#include "gtest/gtest.h"
#include "statestore/testing/crash_explorer.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::CrashReport;
using ::holdfast::testing::ExploreCrashes;
using ::holdfast::testing::Stepping;

enum class Rule {
  kNone,
  kCountByUserCode,  // How much went out, stored after the call.
  kForgetsRequests,  // A successor begins with an empty journal.
  kDoesNotWait,      // A successor asks before its predecessor is answered.
  kEntryBeforeWord,  // An entry counts before anything says it is sent.
};

struct Scenario {
  uint32_t send_limit = 64;  // So many bytes go out with one call.
  bool often_full = false;   // Every other call finds no room.
  Rule broken = Rule::kNone;
  uint32_t done = 0;  // Steps before the first process begins.
};

// The device's work, in this order: what it wants of each step.
struct Step {
  bool write;
  uint8_t address;
  uint8_t value;  // Of a write.
};
constexpr Step kWork[] = {
    {true, 1, 11}, {false, 2, 0}, {true, 1, 22}, {false, 1, 0}};
constexpr size_t kSteps = sizeof(kWork) / sizeof(kWork[0]);
constexpr uint32_t kMessages = 32;

// What outlives a process.
struct World {
  alignas(4096) AskMemory journal;
  uint32_t done;         // Steps of the work; the device's own journal.
  uint32_t got[kSteps];  // What reads have brought.
  // The client's: the stream, and what of it was done and answered, in the
  // order in which it was.
  uint32_t sent;
  uint8_t stream[kMessages * 40];
  uint8_t order[kMessages];  // Messages.
  uint32_t answered;         // So many of `order` count.
  uint32_t taken;            // So many answers the lane has executed.
  uint32_t no_room;
  // A system call is not cut by a death: whoever comes next finishes it.
  struct {
    uint32_t pending, sent, entry, length;
  } call;

  void Finish() {
    if (call.pending == 0) return;
    sent = call.sent;
    if (call.entry != 0) {
      std::memcpy(reinterpret_cast<uint8_t*>(&journal) + call.entry,
                  &call.length, 4);
    }
    __atomic_store_n(&call.pending, 0, __ATOMIC_SEQ_CST);
  }
};
constexpr size_t kWorldSize = (sizeof(World) + 4095) / 4096 * 4096;

World& WorldIn(absl::Span<uint8_t> memory) {
  return *reinterpret_cast<World*>(memory.data());
}

class ModelIo final : public SendingIo {
 public:
  ModelIo(const Scenario& scenario, World& world)
      : scenario_(scenario), world_(world) {}

  absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector&,
                              absl::Span<const uint8_t> bytes,
                              absl::Span<const int>) override {
    if (scenario_.often_full) {
      world_.no_room ^= 1;
      if (world_.no_room != 0) return Result::kNothing;
    }
    const uint32_t size =
        std::min<uint32_t>(bytes.size(), scenario_.send_limit);
    if (world_.sent + size > sizeof(world_.stream)) return Result::kClosed;
    std::memcpy(world_.stream + world_.sent, bytes.data(), size);
    const bool by_user = scenario_.broken == Rule::kCountByUserCode;
    world_.call.length = size;
    world_.call.sent = world_.sent + size;
    world_.call.entry =
        by_user ? 0
                : static_cast<uint32_t>(
                      reinterpret_cast<const uint8_t*>(&entry.length) -
                      reinterpret_cast<const uint8_t*>(&world_.journal));
    __atomic_store_n(&world_.call.pending, 1, __ATOMIC_SEQ_CST);
    world_.Finish();
    if (by_user) entry.length = size;
    return Result::kDone;
  }

 private:
  const Scenario& scenario_;
  World& world_;
};

// The messages that are whole in the stream; a wrong one ends the list.
struct Message {
  MessageHeader header;
  DmaAccess access;
  uint8_t value = 0;
};
std::vector<Message> MessagesIn(const World& world, std::string* wrong) {
  std::vector<Message> messages;
  for (size_t at = 0; at < world.sent;) {
    Message message{};
    const size_t left = world.sent - at;
    if (left < 32) return messages;
    std::memcpy(&message.header, world.stream + at, 16);
    std::memcpy(&message.access, world.stream + at + 16, 16);
    const bool write = message.header.command == 12;
    const uint32_t size = write ? 33 : 32;
    if (message.header.size != size ||
        (!write && message.header.command != 11) || message.access.count != 1 ||
        message.access.address > 3 || messages.size() == kMessages) {
      *wrong = absl::StrCat("message ", messages.size(), " is torn");
      return messages;
    }
    if (left < size) return messages;
    if (write) message.value = world.stream[at + 32];
    messages.push_back(message);
    at += size;
  }
  return messages;
}

// Answers the youngest request that has no answer; false: all have one.
bool AnswerOne(World& world, const std::vector<Message>& messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const uint8_t* const end = world.order + world.answered;
    if (std::find(static_cast<const uint8_t*>(world.order), end, i) != end) {
      continue;
    }
    world.order[world.answered] = static_cast<uint8_t>(i);
    __atomic_store_n(&world.answered, world.answered + 1, __ATOMIC_RELEASE);
    return true;
  }
  return false;
}

// The client's memory when it has given so many answers.
uint8_t RamAt(const World& world, const std::vector<Message>& messages,
              uint64_t address, size_t answers) {
  uint8_t value = 0;
  for (size_t i = 0; i < answers; ++i) {
    const Message& message = messages[world.order[i]];
    if (message.header.command == 12 && message.access.address == address) {
      value = message.value;
    }
  }
  return value;
}

// A process from its start until its work is done: the first, every successor.
void Serve(const Scenario& scenario, absl::Span<uint8_t> memory) {
  World& world = WorldIn(memory);
  world.Finish();
  if (scenario.broken == Rule::kForgetsRequests) {
    std::memset(&world.journal, 0, 832);
  }
  AskJournal journal(world.journal);
  if (!journal.Resume().ok()) return;
  ModelIo io(scenario, world);
  const bool waits = scenario.broken != Rule::kDoesNotWait;
  bool asked = false;  // By this process.
  size_t slot = 0;
  size_t own = kMaxAsks;
  for (int turn = 0; turn < 400 && world.done < kSteps; ++turn) {
    if (journal.unfinished()) {
      (void)journal.Finish(io);
      continue;
    }
    if (!asked && (!waits || journal.waiting() == 0)) {
      const Step& step = kWork[world.done];
      AskJournal::Ask ask;
      ask.command = step.write ? Command::kDmaWrite : Command::kDmaRead;
      ask.address = step.address;
      ask.count = 1;
      if (step.write) ask.data = {&step.value, 1};
      if (scenario.broken == Rule::kEntryBeforeWord) {
        world.journal.asks[7].name = 11u << 16 | 0xffff;
        world.journal.asks[7].count = 1;
      }
      const auto sent = journal.Send(io, ask, &slot);
      if (scenario.broken == Rule::kEntryBeforeWord) {
        world.journal.asks[7].name = 0;
      }
      if (!sent.ok() || *sent == AskJournal::Sent::kClosed) return;
      if (*sent == AskJournal::Sent::kNothing) continue;
      asked = true;
      own = slot;
      continue;
    }
    std::string wrong;
    const std::vector<Message> messages = MessagesIn(world, &wrong);
    if (world.taken == world.answered && !AnswerOne(world, messages)) continue;
    const Message& message = messages[world.order[world.taken]];
    Answer answer;
    answer.id = message.header.id;
    answer.command = Command{message.header.command};
    const uint64_t address = message.access.address;
    const uint8_t byte = static_cast<uint8_t>(
        100 + 10 * address + RamAt(world, messages, address, world.taken));
    if (answer.command == Command::kDmaRead) answer.data = {&byte, 1};
    const auto taken = journal.Take(answer);
    if (taken.has_value() && asked && taken->slot == own) {
      if (!taken->data.empty()) world.got[world.done] = taken->data[0];
      __atomic_store_n(&world.done, world.done + 1, __ATOMIC_RELEASE);
      asked = false;
    }
    // The lane commits that it has executed this message.
    __atomic_store_n(&world.taken, world.taken + 1, __ATOMIC_RELEASE);
  }
}

std::string Check(absl::Span<uint8_t> memory) {
  World& world = WorldIn(memory);
  std::string wrong;
  const std::vector<Message> messages = MessagesIn(world, &wrong);
  if (!wrong.empty()) return wrong;
  if (world.done != kSteps) return absl::StrCat("hangs at ", world.done);
  while (AnswerOne(world, messages)) {
  }
  for (const Message& message : messages) {
    for (const Message& other : messages) {
      if (&message < &other && message.header.id == other.header.id) {
        return "an id is used again";
      }
    }
  }
  const uint8_t left = RamAt(world, messages, 1, world.answered);
  if (left != 22) return absl::StrCat("a stale write: ", left);
  if (world.got[1] != 120 || world.got[3] != 132) {
    return absl::StrCat("another's answer: ", world.got[1], " ", world.got[3]);
  }
  return "";
}

CrashReport Explore(const Scenario& scenario, int depth) {
  std::vector<uint8_t> image(kWorldSize);
  WorldIn(absl::MakeSpan(image)).done = scenario.done;
  if (scenario.done > 1) WorldIn(absl::MakeSpan(image)).got[1] = 120;
  const auto serve = [&scenario](absl::Span<uint8_t> memory) {
    Serve(scenario, memory);
  };
  const CrashReport report =
      ExploreCrashes(image, serve, serve, Check, depth, Stepping::kTraps);
  std::printf("%llu states, %llu recoveries, %llu violations %s\n",
              static_cast<unsigned long long>(report.crash_states),
              static_cast<unsigned long long>(report.recoveries),
              static_cast<unsigned long long>(report.violations),
              report.first_violation.c_str());
  EXPECT_EQ(report.error, "");
  return report;
}

void ExpectSound(const Scenario& scenario, int depth) {
  const CrashReport report = Explore(scenario, depth);
  EXPECT_EQ(report.violations, 0u) << report.first_violation;
  EXPECT_GT(report.recoveries, 50u);
}

TEST(AskJournalCrash, WholeMessages) { ExpectSound({64, false}, 1); }

TEST(AskJournalCrash, MessagesInPieces) { ExpectSound({7, false}, 1); }

TEST(AskJournalCrash, ThereIsOftenNoRoom) { ExpectSound({9, true}, 1); }

// The successor dies, too, wherever the first has died.
TEST(AskJournalCrash, TwoDeaths) {
  ExpectSound({20, false, Rule::kNone, /*done=*/2}, 2);
}

// Each control must be caught by what the tests above do.
TEST(AskJournalCrashControl, ACountByUserCodeTearsTheStream) {
  EXPECT_NE(Explore({7, false, Rule::kCountByUserCode}, 1).violations, 0u);
}

TEST(AskJournalCrashControl, WhoForgetsTakesAnswersToTheDead) {
  EXPECT_NE(Explore({64, false, Rule::kForgetsRequests}, 1).violations, 0u);
}

TEST(AskJournalCrashControl, WhoDoesNotWaitIsOvertakenByTheDead) {
  EXPECT_NE(Explore({64, false, Rule::kDoesNotWait}, 1).violations, 0u);
}

TEST(AskJournalCrashControl, AnEntryThatCountsTooEarlyIsWaitedForForEver) {
  EXPECT_NE(Explore({64, false, Rule::kEntryBeforeWord}, 1).violations, 0u);
}

}  // namespace
}  // namespace holdfast::vfio_user
