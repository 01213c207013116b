#include "devices/runtime/config_notice.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

class Configured final : public VirtioDevice {
 public:
  explicit Configured(size_t size) : config(size) {}
  absl::Status OnRequest(Request&, Txn&) override { return absl::OkStatus(); }
  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override {
    ASSERT_LE(offset + out.size(), config.size());
    std::copy_n(config.begin() + offset, out.size(), out.begin());
  }

  std::vector<uint8_t> config;
};

class ConfigNoticeTest : public ::testing::Test {
 protected:
  ConfigNotice Notice(size_t section_size = sizeof(SessionRecord)) {
    return ConfigNotice({reinterpret_cast<uint8_t*>(&record_), section_size},
                        device_, static_cast<uint32_t>(device_.config.size()));
  }

  SessionRecord record_ = {};
  Configured device_{60};
};

TEST_F(ConfigNoticeTest, ANewSegmentDiffersFromNothing) {
  const ConfigNotice notice = Notice();
  EXPECT_FALSE(notice.Differs(notice.Fingerprint()));
}

TEST_F(ConfigNoticeTest, ASuccessorSeesWhatItsPredecessorDidNotTell) {
  ConfigNotice first = Notice();
  first.Remember(first.Fingerprint());
  EXPECT_FALSE(Notice().Differs(Notice().Fingerprint()));
  device_.config[8] ^= 1;
  ConfigNotice second = Notice();
  EXPECT_TRUE(second.Differs(second.Fingerprint()));
  second.Remember(second.Fingerprint());
  EXPECT_FALSE(Notice().Differs(Notice().Fingerprint()));
}

TEST_F(ConfigNoticeTest, EveryByteCounts) {
  device_ = Configured(600);  // More than is read at once.
  const uint64_t before = Notice().Fingerprint();
  for (size_t i = 0; i < device_.config.size(); ++i) {
    device_.config[i] ^= 0x40;
    EXPECT_NE(Notice().Fingerprint(), before) << "byte " << i;
    device_.config[i] ^= 0x40;
  }
  EXPECT_EQ(Notice().Fingerprint(), before);
}

TEST_F(ConfigNoticeTest, AZeroedSpaceIsNotNothing) {
  EXPECT_NE(Notice().Fingerprint(), 0u);
}

TEST_F(ConfigNoticeTest, ADeviceWithoutConfigurationHasNothingToTell) {
  device_ = Configured(0);
  ConfigNotice notice = Notice();
  EXPECT_EQ(notice.Fingerprint(), 0u);
  notice.Remember(notice.Fingerprint());
  EXPECT_FALSE(notice.Differs(notice.Fingerprint()));
}

TEST_F(ConfigNoticeTest, ASegmentWithoutTheSectionRemembersNothing) {
  for (size_t size : {size_t{0}, sizeof(SessionRecord) - 1}) {
    ConfigNotice notice = Notice(size);
    notice.Remember(notice.Fingerprint());
    EXPECT_FALSE(notice.Differs(notice.Fingerprint() + 1));
  }
  EXPECT_EQ(record_.config_told, 0u);
}

}  // namespace
}  // namespace holdfast
