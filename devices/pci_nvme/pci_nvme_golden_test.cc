// An image of a controller's state as its segment holds it, in the middle of
// things: today's code writes it byte for byte, takes it over and goes on. When
// a test here fails, guests that run would lose their disks with the next
// upgrade. See "Format" in README.md; a new image is written with
// HOLDFAST_WRITE_GOLDEN=<path> in the environment of this test.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/testing/matchers.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/completion_queue.h"
#include "devices/pci_nvme/error_log.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/submission_queue.h"
#include "devices/pci_nvme/testing/hooked_engine.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/schema.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::HookedEngine;
using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::nvme::testing::RamEngine;
using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::StatusIs;
using ::testing::_;

constexpr char kGolden[] = "devices/pci_nvme/golden/segment_v1.txt";
constexpr uint64_t kShadows = 0xa000;
constexpr uint64_t kEvents = 0xb000;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kBlock = 7;  // Whose read is the last thing that happens.

PciClass ControllerOf(uint32_t queues) {
  return NvmeClass({{"num-queues", absl::StrCat(queues)},
                    {"shadow-doorbells", "on"},
                    {"workers", "1"}},
                   &HookedEngine::Make);
}

// Memory of a guest and its device, at a page.
class Memory {
 public:
  explicit Memory(size_t size) : bytes_(size + kPage), size_(size) {}
  explicit Memory(absl::Span<const uint8_t> from) : Memory(from.size()) {
    std::memcpy(span().data(), from.data(), from.size());
  }
  absl::Span<uint8_t> span() {
    const size_t skew = reinterpret_cast<uintptr_t>(bytes_.data()) % kPage;
    return absl::MakeSpan(bytes_).subspan((kPage - skew) % kPage, size_);
  }

 private:
  std::vector<uint8_t> bytes_;
  const size_t size_;
};

absl::Span<uint8_t> AreaOf(const PciGuest::View& view, const char* name) {
  return ControllerOf(2).spec.areas().Find(name, view.areas);
}

// A driver that rings queue 1 by shadows, and always.
void Ring(NvmeDriver& driver) {
  const NvmeDriver::Ring& ring = driver.ring(1);
  const uint8_t tail[4] = {static_cast<uint8_t>(ring.tail)};
  const uint8_t head[4] = {static_cast<uint8_t>(ring.head)};
  driver.guest().StoreRam(kShadows + 8, tail);
  driver.guest().StoreRam(kShadows + 12, head);
  driver.RingTail(1);
}

Command LogPageOf(LogPage page) {
  return NvmeDriver::Admin(AdminOpcode::kGetLogPage,
                           0x003f0000u | static_cast<uint32_t>(page), 0,
                           NvmeDriver::kData);
}

// What leaves a trace: features, event requests, doorbells in memory, commands
// that moved something and that failed.
void LiveALittle(NvmeDriver& driver) {
  driver.Enable();
  driver.Do(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x0b, 0x100));
  driver.Do(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x04, 330));
  driver.CreateQueue(1);
  driver.CreateQueue(2);
  Command shadows = NvmeDriver::Admin(AdminOpcode::kDoorbellBuffers);
  shadows.prp1 = kShadows;
  shadows.prp2 = kEvents;
  driver.Do(0, shadows);
  driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  driver.RingTail(0);
  for (int i = 0; i < 40; ++i) {
    driver.Data(NvmeDriver::kData, 512)[i] = static_cast<uint8_t>(i + 1);
  }
  for (const auto opcode : {IoOpcode::kWrite, IoOpcode::kRead}) {
    driver.Submit(1, NvmeDriver::Io(opcode, 3, 1));
  }
  driver.Submit(1, NvmeDriver::Io(IoOpcode::kRead, 1 << 20, 1));
  Ring(driver);
  while (driver.Poll(1).has_value()) driver.Acknowledge(1);
}

// Three commands in queue 1. A kill came while the first one was executed,
// which had crashed a process before; the second one was completed by another
// thread, its completion committed and not in the guest's memory, and the third
// one not taken. Returns all memory.
std::vector<uint8_t> MakeImage(NvmeDriver::Rings* rings) {
  PciGuest guest(ControllerOf(2), NvmeGuest());
  NvmeDriver driver(guest);
  LiveALittle(driver);
  std::vector<uint8_t> image;
  HookedEngine::hook() = [&](uint64_t offset) {
    if (offset == kBlock * 512) {
      image.assign(guest.memory().begin(), guest.memory().end());
    }
    return absl::OkStatus();
  };
  driver.Submit(1, NvmeDriver::Io(IoOpcode::kRead, kBlock, 1));
  driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 9, 1));
  driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 10, 1));
  Ring(driver);
  HookedEngine::hook() = nullptr;
  *rings = driver.rings();
  Memory memory(image);
  const PciGuest::View view = guest.ViewOf(memory.span());
  SubmissionQueue sq(AreaOf(view, "sq1"));
  EXPECT_TRUE(sq.Attach(sq.life()));
  EXPECT_EQ(sq.in_flight(), 1u);
  sq.Blame(*sq.TakeLeft());
  Command second;
  std::memcpy(&second, view.ram.data() + sq.next_address(), sizeof(second));
  const size_t slot = sq.Fetch(second);
  CompletionQueue cq(AreaOf(view, "cq1"));
  EXPECT_TRUE(cq.Attach(
      reinterpret_cast<const CompletionArea*>(AreaOf(view, "cq1").data())
          ->generation));
  Completion completion = {};
  completion.sq_head = sq.head();
  completion.sq_id = 1;
  completion.cid = second.cid;
  const absl::Status posted = cq.Post(
      completion, sq.counter(slot), slot, Traffic::OfWrite(512),
      [&](uint64_t, const Completion&) {
        image.assign(memory.span().begin(), memory.span().end());
        return absl::OkStatus();
      },
      [](const CompletionRecord&) {});
  EXPECT_OK(posted);
  return image;
}

// ---- The image as text: what is not zero, in rows ----

constexpr size_t kRow = 32;

void PrintBytes(const char* name, absl::Span<const uint8_t> bytes,
                std::string* text) {
  absl::StrAppend(text, name, " ", bytes.size(), "\n");
  for (size_t at = 0; at < bytes.size(); at += kRow) {
    const auto row = bytes.subspan(at, kRow);
    if (std::all_of(row.begin(), row.end(), [](uint8_t b) { return b == 0; })) {
      continue;
    }
    absl::StrAppendFormat(
        text, " %05x %s\n", at,
        absl::BytesToHexString(absl::string_view(
            reinterpret_cast<const char*>(row.data()), row.size())));
  }
}

std::string Print(absl::Span<uint8_t> memory) {
  const PciGuest guest(ControllerOf(2), NvmeGuest(), PciGuest::Detached());
  const PciGuest::View view = guest.ViewOf(memory);
  const Schema& schema = guest.layout().schema;
  std::string text = absl::StrCat("schema ", schema.name, " version ",
                                  schema.version, ", ", schema.size, "\n");
  for (const Field& field : schema.fields) {
    absl::StrAppend(&text, " ", field.offset, " ", field.type.size(), " ",
                    field.name, "\n");
  }
  absl::StrAppend(&text, "accesses ", view.record->done, "\n");
  PrintBytes("state", view.state, &text);
  PrintBytes("areas", view.areas, &text);
  PrintBytes("ram", view.ram, &text);
  return text;
}

std::string GoldenText() {
  std::ifstream file(kGolden);
  return {std::istreambuf_iterator<char>(file),
          std::istreambuf_iterator<char>()};
}

// The memory that a text is of. Of the record only what names accesses.
Memory Parse(const std::string& text) {
  const PciGuest guest(ControllerOf(2), NvmeGuest(), PciGuest::Detached());
  Memory memory(guest.MemorySize());
  const PciGuest::View view = guest.ViewOf(memory.span());
  absl::Span<uint8_t> part;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    std::string value;
    words >> name >> value;
    if (name == "accesses") view.record->done = std::stoull(value);
    if (name == "state") part = view.state;
    if (name == "areas") part = view.areas;
    if (name == "ram") part = view.ram;
    if (line[0] != ' ' || part.empty()) continue;
    const std::string row = absl::HexStringToBytes(value);
    const size_t at = std::stoull(name, nullptr, 16);
    EXPECT_LE(at + row.size(), part.size());
    std::memcpy(part.data() + at, row.data(),
                std::min(row.size(), part.size() - at));
  }
  return memory;
}

// ---- Tests ----

TEST(PciNvmeGoldenV1, IsWrittenByteForByteByTheSameCommands) {
  NvmeDriver::Rings rings;
  Memory memory(MakeImage(&rings));
  const std::string text = Print(memory.span());
  if (const char* path = std::getenv("HOLDFAST_WRITE_GOLDEN")) {
    std::ofstream(path) << text;
  }
  EXPECT_EQ(text, GoldenText());
}

// The control: a byte that moves is seen, and a text says all of an image.
TEST(PciNvmeGoldenV1, DiffersFromAnImageWithOneOtherByte) {
  Memory memory = Parse(GoldenText());
  EXPECT_EQ(Print(memory.span()), GoldenText());
  const PciGuest guest(ControllerOf(2), NvmeGuest(), PciGuest::Detached());
  guest.ViewOf(memory.span()).areas[0] ^= 1;
  EXPECT_NE(Print(memory.span()), GoldenText());
}

class PciNvmeTakesGolden : public ::testing::Test {
 protected:
  PciNvmeTakesGolden()
      : memory_(Parse(GoldenText())),
        guest_(ControllerOf(2), NvmeGuest(), PciGuest::Detached()) {
    MakeImage(&rings_);
    guest_.set_next_id(guest_.ViewOf(memory_.span()).record->done);
    guest_.Attach(memory_.span());
  }

  std::optional<Completion> Next(NvmeDriver& driver, uint16_t queue) {
    const auto completion = driver.Poll(queue);
    if (completion.has_value()) driver.Acknowledge(queue);
    return completion;
  }

  Memory memory_;
  PciGuest guest_;
  NvmeDriver::Rings rings_;
};

TEST_F(PciNvmeTakesGolden, AndCompletesWhatWasBegunOnceEach) {
  // The driver of the image has not looked at its queue since.
  NvmeDriver driver(guest_, rings_);
  NvmeDriver::Ring& ring = driver.ring(1);
  const auto next_cid = static_cast<uint16_t>(ring.next_cid - 3);
  std::vector<uint16_t> completed;
  while (const auto completion = Next(driver, 1)) {
    EXPECT_EQ(completion->status >> 1, 0) << completion->cid;
    completed.push_back(completion->cid);
  }
  // The journaled one first: it was in the guest's eyes already.
  const uint16_t first = next_cid;
  EXPECT_THAT(completed, ::testing::ElementsAre(first + 1, first, first + 2));
  driver.Submit(1, NvmeDriver::Io(IoOpcode::kRead, 3, 1, 0x7000));
  Ring(driver);
  EXPECT_TRUE(Next(driver, 1).has_value());
  EXPECT_EQ(driver.Data(0x7000, 512)[39], 40) << "what was written before";
}

TEST_F(PciNvmeTakesGolden, AndKnowsFeaturesErrorsAndCounts) {
  NvmeDriver driver(guest_, rings_);
  EXPECT_EQ(driver.status(), kReady);
  EXPECT_EQ(
      driver.Do(0, NvmeDriver::Admin(AdminOpcode::kGetFeatures, 0x04)).result,
      330u);
  EXPECT_EQ(
      driver.Do(0, NvmeDriver::Admin(AdminOpcode::kGetFeatures, 0x0b)).result,
      0x100u);
  EXPECT_EQ(driver.Try(0, LogPageOf(LogPage::kErrors)), Status::kSuccess);
  ErrorEntry entry;
  std::memcpy(&entry, driver.Data(NvmeDriver::kData, sizeof(entry)).data(),
              sizeof(entry));
  EXPECT_EQ(entry.count, 1u);
  EXPECT_EQ(entry.lba, uint64_t{1} << 20);
  EXPECT_EQ(driver.Try(0, LogPageOf(LogPage::kSmart)), Status::kSuccess);
  std::array<uint64_t, 4> counts;  // Reads and writes, of 16 bytes each.
  std::memcpy(counts.data(), driver.Data(NvmeDriver::kData + 64, 32).data(),
              32);
  EXPECT_EQ(counts[0], 2u) << "the one before and the one that was left";
  EXPECT_EQ(counts[2], 3u) << "each of them once";
}

TEST_F(PciNvmeTakesGolden, AndAnswersTheRequestThatWaits) {
  NvmeDriver driver(guest_, rings_);
  EXPECT_FALSE(Next(driver, 0).has_value());
  guest_.ChangeResource(RamEngine::kSize / 2);
  const auto event = Next(driver, 0);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->result, 0x040002u);
}

// The state of another number of queues has other registers.
TEST(PciNvmeGoldenV1, IsRefusedByAProcessWithOtherQueues) {
  const auto schema = [](uint32_t queues) {
    return PciGuest(ControllerOf(queues), NvmeGuest(), PciGuest::Detached())
        .layout()
        .schema;
  };
  EXPECT_OK(CheckCompatible(schema(2), schema(2)));
  EXPECT_FALSE(CheckCompatible(schema(2), schema(1)).ok());
  EXPECT_FALSE(CheckCompatible(schema(2), schema(3)).ok());
}

// Areas have no description of their own: their size is all that is checked.
TEST(PciNvmeGoldenV1, IsRefusedByAProcessWithOtherAreas) {
  Memory memory = Parse(GoldenText());
  PciClass other = ControllerOf(2);
  other.spec.Area("more", 64);
  const PciGuest guest(ControllerOf(2), NvmeGuest(), PciGuest::Detached());
  EXPECT_THAT(
      other.spec.areas().CheckMemory("NVMe", guest.ViewOf(memory.span()).areas),
      StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(PciNvmeTakesGolden, AndMakesAndDeletesQueues) {
  NvmeDriver driver(guest_, rings_);
  EXPECT_EQ(driver.Try(0, NvmeDriver::Admin(AdminOpcode::kDeleteSq, 2)),
            Status::kSuccess);
  EXPECT_EQ(driver.Try(0, NvmeDriver::Admin(AdminOpcode::kDeleteCq, 2)),
            Status::kSuccess);
  std::fill_n(guest_.ram().begin() + NvmeDriver::SqBase(2), 0x2000, 0);
  driver.ring(2) = NvmeDriver::Ring();
  driver.CreateQueue(2);
}

}  // namespace
}  // namespace holdfast::nvme
