// What QEMU makes of a server's mistakes, as measured on QEMU 11.1: the golden
// table says what the guest sees, and what becomes of the connection.
#include "devices/vfio_user/testing/qemu_model.h"

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "devices/vfio_user/testing/server_faults.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

// What the guest sees of a fault, of the access after it and of the third.
std::string Reaction(const FaultRow& row) {
  ScriptedServer script(row.fault);
  QemuModel qemu(script);
  std::string guest;
  if (row.write) {
    qemu.Write(/*region=*/7, 0x40, 0x55, 2);
    guest = "-";
  } else {
    guest = absl::StrFormat("%08x", qemu.Read(0, 0x10, 4));
  }
  for (int i = 0; i < 2; ++i) {
    absl::StrAppend(&guest, " ",
                    absl::Hex(qemu.Read(0, 0x10, 4), absl::kZeroPad8));
  }
  return absl::StrCat(
      row.name, " | ", guest, " | ", qemu.timeouts(), " timeouts | ",
      qemu.dead() ? "dead" : "lives", " | ",
      qemu.said().empty() ? "nothing" : absl::StrJoin(qemu.said(), "; "), "\n");
}

TEST(QemuModel, ReactsAsTheTableSays) {
  std::string table =
      "server | guest reads | waits | connection | QEMU prints\n";
  for (const auto& rows : {RowsOfTime(), RowsOfShape()}) {
    for (const FaultRow& row : rows) table += Reaction(row);
  }
  std::ifstream file("devices/vfio_user/golden/qemu_reactions.txt");
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(table, golden.str()) << "the whole table now:\n" << table;
}

TEST(QemuModel, RefusesRequestsByNameAndGoesOn) {
  ScriptedServer script([](const Bytes&, const Bytes& reply) {
    return Arrivals{{CommandMessage(Command::kDmaRead, Bytes(16))},
                    {CommandMessage(Command::kDeviceFeature, Bytes(8))},
                    {reply}};
  });
  QemuModel qemu(script);
  EXPECT_EQ(qemu.Read(0, 0, 4), kAnswer);
  EXPECT_EQ(script.refusals, (std::vector<uint32_t>{EINVAL, ENOSYS}));
}

TEST(QemuModel, DoesNotPlugInADeviceOfAnotherVersion) {
  ScriptedServer script([](const Bytes&, const Bytes&) {
    return Arrivals{
        {WithHeader(VersionMessage(0, 1, "{}"), [](MessageHeader& h) {
          h.flags = kFlagReply;
          h.id = 0;
        })}};
  });
  QemuModel qemu(script);
  EXPECT_FALSE(qemu.Realize());
  EXPECT_EQ(qemu.sent().size(), 1u);
}

}  // namespace
}  // namespace holdfast::vfio_user
